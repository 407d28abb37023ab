"""Collections: lists of repos with a title, one JSON file each in the folder `collections`, by their ids."""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .durable import locked, make_folders, sync_folder, write_file
from .records import now
from .refusal import Refusal

THEMES = ("orange", "blue", "green", "purple", "pink", "indigo")
MAX_NOTE = 500  # characters
MAX_ITEMS = 1000
_SLUG = re.compile(r"(?:.*-)?([0-9a-f]{24})")


@dataclass(frozen=True)
class Item:
    """`type`: model, dataset, space or collection; of a collection, `id` is its id, which stays when its title changes."""

    key: str
    type: str
    id: str
    note: str = ""


@dataclass(frozen=True)
class Collection:
    id: str
    owner: str
    title: str
    description: str = ""
    private: bool = False
    theme: str = THEMES[0]
    position: int = 0
    last_updated: str = ""
    items: tuple[Item, ...] = field(default_factory=tuple)

    @property
    def slug(self) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return f"{self.owner}/{words}-{self.id}" if words else f"{self.owner}/{self.id}"

    def with_item(self, kind: str, item_id: str, note: str) -> "Collection":
        """Raises Refusal: 409 if it has the item, 400 if it is full."""
        if any((item.type, item.id) == (kind, item_id) for item in self.items):
            raise Refusal(409, f"The collection has this {kind} already")
        if len(self.items) >= MAX_ITEMS:
            raise Refusal(400, f"A collection may have at most {MAX_ITEMS} items")
        return replace(self, items=(*self.items, Item(secrets.token_hex(12), kind, item_id, note)))

    def with_changed_item(self, key: str, note: str | None, position: int | None) -> "Collection":
        """Raises Refusal (404)."""
        found = self._find(key)
        changed = found if note is None else replace(found, note=note)
        items = [changed if item is found else item for item in self.items]
        if position is not None:
            items.remove(changed)
            items.insert(position, changed)
        return replace(self, items=tuple(items))

    def without_item(self, key: str) -> "Collection":
        """Raises Refusal (404)."""
        found = self._find(key)
        return replace(self, items=tuple(item for item in self.items if item is not found))

    def _find(self, key: str) -> Item:
        for item in self.items:
            if item.key == key:
                return item
        raise Refusal(404, "The collection has no such item")


class Collections:
    """Those of one Hub's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "collections"
        self._lock = folder / "locks" / "collections.lock"

    def all(self) -> list[Collection]:
        """By owner, and by their position there."""
        found = [one for path in self._folder.glob("*.json") if (one := self._read(path)) is not None]
        return sorted(found, key=lambda one: (one.owner, one.position, one.id))

    def find(self, slug: str) -> Collection | None:
        """By the id at the end of a slug: what is before it changes with the title."""
        match = _SLUG.fullmatch(slug)
        return self._read(self._folder / f"{match[1]}.json") if match else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        with locked(self._lock):
            yield

    def save(self, collection: Collection) -> Collection:
        """Only inside `locked`."""
        make_folders(self._folder)
        collection = replace(collection, last_updated=now())
        write_file(self._folder / f"{collection.id}.json", json.dumps(asdict(collection)).encode())
        return collection

    def delete(self, collection: Collection) -> None:
        """Only inside `locked`."""
        (self._folder / f"{collection.id}.json").unlink()
        sync_folder(self._folder)

    @staticmethod
    def _read(path: Path) -> Collection | None:
        try:
            stored: dict[str, Any] = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Collection(**{**stored, "items": tuple(Item(**item) for item in stored["items"])})
