"""The messages of a chat -> plain text, one block for each message, separated by blank lines.

    System: You are Echo.

    User: Who are you?

    Assistant: I am Echo.

Read: OpenAI's, ShareGPT's, Anthropic's and Gemini's forms of a message; a content that is a text, or a list of parts. Calls of
tools are blocks of their own, with the arguments as JSON:

    Assistant calls get_weather: {"city": "Bergen"}

    Tool: rain
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

USER, ASSISTANT, SYSTEM, TOOL = "User", "Assistant", "System", "Tool"
_SPEAKERS = {
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "bot", "chatbot", "chatgpt", "model", "ai"), ASSISTANT),
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), TOOL),
    **dict.fromkeys(("function_call", "tool_call"), f"{ASSISTANT} calls"),
}
_TURN = {"system": SYSTEM, "input": USER, "output": ASSISTANT}
ANSWERS_LEFT_OUT = "answers left out"
ROLE_KEYS, CONTENT_KEYS = ("role", "from", "speaker"), ("content", "value", "parts", "text", "message")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_CALL_KEYS = ("tool_calls", "function_call")
_ARGUMENT_KEYS = ("arguments", "args", "input", "parameters")
_SWITCHES = ("weight", "train", "training", "loss")  # not to be imitated if 0 or false: OpenAI, axolotl, LLaMA-Factory


@dataclass
class Remarks:
    """What is not in the text of one record. `keys` and `texts` are names: of unknown keys, and of known ones with text."""

    keys: dict[str, None] = field(default_factory=dict)
    texts: dict[str, None] = field(default_factory=dict)
    others: list[tuple[str, str]] = field(default_factory=list)  # kind of finding, example


@dataclass(frozen=True)
class ChatBlock:
    """What a speaker says; without a speaker, just text."""

    speaker: str
    text: str

    def __str__(self) -> str:
        return f"{self.speaker}: {self.text}" if self.speaker else self.text


class LeftOutError(Exception):
    """A valid record that must not be learnt, such as a bad answer. The message continues "line N ..."."""


def read_messages(messages: object, key: str, remarks: Remarks) -> list[ChatBlock]:
    """The blocks of a list of messages, or of a single message. Raises ValueError if one is invalid, or a question or an answer
    without text. The message continues "record N ...".
    """
    if isinstance(messages, dict):
        messages = [messages]
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"has {kind_name(messages)} as `{key}`, not a list of messages")
    blocks = []
    for number, one in enumerate(messages, 1):
        match one:
            case {"role": str(role), "content": str(text)} | {"from": str(role), "value": str(text)} if (
                len(one) == 2 and text.strip()
            ):
                blocks.append(ChatBlock(_speaker(role), text))  # as most are
            case _:
                blocks += _read_message(one, f"message {number} of `{key}`", key, remarks)
    return blocks


def read_content(content: object, key: str, speaker: str, remarks: Remarks) -> list[ChatBlock]:
    """The blocks of a content without a message. Raises ValueError as `read_messages` does."""
    parts = _Parts(f"`{key}`", key, remarks)
    parts.read(content)
    parts.require_text(speaker, content)
    return parts.blocks(speaker)


def _read_message(message: object, place: str, key: str, remarks: Remarks) -> list[ChatBlock]:
    if not isinstance(message, dict):
        raise ValueError(f"has {kind_name(message)} as {place}, not an object with `role` and `content`")
    if isinstance(message.get("input"), str) and isinstance(message.get("output"), str):  # a turn of Capybara
        name_others(message, tuple(_TURN), f"{key}.", remarks)
        said = [(speaker, _text_of(message, one, place)) for one, speaker in _TURN.items()]
        return [ChatBlock(speaker, text) for speaker, text in said if not is_empty(text)]
    role_key = next((one for one in ROLE_KEYS if message.get(one) is not None), None)
    if role_key is None or not isinstance(message[role_key], str):
        raise ValueError(f"has no `role` in {place}")
    named = [one for one in CONTENT_KEYS if one in message]
    content_key = next((one for one in named if message[one] is not None), next(iter(named), "content"))
    content = message.get(content_key)
    speaker = _speaker(message[role_key])
    if speaker == ASSISTANT and (switch := next((one for one in _SWITCHES if _is_off(one, message)), None)):
        remarks.others.append((ANSWERS_LEFT_OUT, f"{place} has `{switch}`: {json_text(message[switch])}"))
        return []
    parts = _Parts(f"`{content_key}` in {place}", f"{key}.{content_key}", remarks)
    for one in _REASONING_KEYS:
        parts.think(_text_of(message, one, place))
    parts.read(content)
    parts.say(_text_of(message, "refusal", place))
    for one in _CALL_KEYS:
        parts.found += _calls(message.get(one), f"{key}.{one}", place, remarks)
    parts.require_text(speaker, content)
    name = message.get("name")
    is_said = isinstance(name, str) and any(isinstance(one, str) for one in parts.found)
    switches = [one for one in _SWITCHES if isinstance(message.get(one), bool | int | float)]
    handled = (role_key, content_key, *_REASONING_KEYS, "refusal", *_CALL_KEYS, *switches, *(["name"] if is_said else []))
    name_others(message, handled, f"{key}.", remarks)
    return parts.blocks(f"{speaker} ({name})" if is_said and not is_empty(name) else speaker)


class _Parts:
    """The content of a message: a text, or a list of parts as OpenAI, Anthropic and Gemini write them.

    `found` has what the speaker says, and blocks for calls of tools and for their results, in order.
    """

    def __init__(self, place: str, key: str, remarks: Remarks) -> None:
        self.place, self._key, self._remarks = place, key, remarks
        self.found: list[str | ChatBlock] = []
        self.without_text: dict[str, None] = {}  # kinds of parts

    def say(self, text: str) -> None:
        if not is_empty(text):
            self.found.append(text)

    def think(self, text: str) -> None:
        if not is_empty(text):
            self.found.append(f"<think>\n{text}\n</think>")

    def read(self, content: object) -> None:
        match content:
            case None:
                pass
            case str():
                self.say(content)
            case list():
                for part in content:
                    self.read(part)
            case dict():
                self._part(content)
            case _:
                raise ValueError(f"has {kind_name(content)} as {self.place}, not text")

    def require_text(self, speaker: str, content: object) -> None:
        """Remark the parts without text. Raises ValueError if there is no other, or none in a question or an answer."""
        if not self.found:
            if self.without_text:
                raise ValueError(f"has no text in {self.place}, only {', '.join(self.without_text)}")
            if speaker == ASSISTANT or (speaker == USER and content is None):
                raise ValueError(f"has {kind_name(content)} as {self.place}, where a text must be")
        for one in self.without_text:
            self._remarks.others.append(("parts of messages without text", f"{one} in {self.place}"))

    def blocks(self, speaker: str) -> list[ChatBlock]:
        """What was found; texts that follow each other are one block."""
        blocks = []
        texts: list[str] = []
        for one in [*self.found, None]:
            if isinstance(one, str):
                texts.append(one)
                continue
            if texts:
                blocks.append(ChatBlock(speaker, "\n\n".join(texts)))
                texts = []
            if one is not None:
                blocks.append(one)
        return blocks

    def _part(self, part: Mapping[str, Any]) -> None:
        known: tuple[str, ...]
        match part:
            case {"type": "python" | "python_output" as kind, "text": str(text)} if not is_empty(text):  # nanochat's tool
                self.found.append(ChatBlock(f"{ASSISTANT} calls python" if kind == "python" else TOOL, text))
                known = ("type", "text")
            case {"text": str(text)}:
                self.say(text)
                known = ("type", "text")
            case {"type": "text", "content": str(text)}:
                self.say(text)
                known = ("type", "content")
            case {"refusal": str(text)}:
                self.say(text)
                known = ("type", "refusal")
            case {"thinking": str(text)}:
                self.think(text)
                known = ("type", "thinking")
            case {"type": "tool_use", "name": str(name)}:
                self.found.append(_call(name, part.get("input")))
                known = ("type", "name", "input")
            case {"functionCall": {"name": str(name), **rest}}:
                self.found.append(_call(name, rest.pop("args", None)))
                name_others(rest, (), f"{self._key}.functionCall.", self._remarks)
                known = ("functionCall",)
            case {"type": "tool_result", "content": content}:
                self._result("", content)
                known = ("type", "content")
            case {"functionResponse": {"name": str(name), **rest}}:
                self._result(name, json_text(rest.pop("response", None)))
                name_others(rest, (), f"{self._key}.functionResponse.", self._remarks)
                known = ("functionResponse",)
            case {"parts": list(parts)}:
                inner = _Parts(self.place, f"{self._key}.parts", self._remarks)
                inner.read(parts)
                self.found += inner.found
                self.without_text |= inner.without_text
                known = ("parts", "role")
            case {"text": text} if not is_empty(text):
                raise ValueError(f"has {kind_name(text)} as `text` of {self.place}")
            case _:
                if not is_empty(part):
                    kind = part.get("type")
                    self.without_text[kind if isinstance(kind, str) else ", ".join(map(str, part))] = None
                return
        name_others(part, known, f"{self._key}.", self._remarks)

    def _result(self, name: str, content: object) -> None:
        parts = _Parts(self.place, f"{self._key}.content", self._remarks)
        parts.read(content)
        self.found += parts.blocks(f"{TOOL} ({name})" if name else TOOL)
        self.without_text |= parts.without_text


def _calls(calls: object, key: str, place: str, remarks: Remarks) -> Iterator[ChatBlock]:
    """`tool_calls` or `function_call` of a message."""
    if is_empty(calls):
        return
    if isinstance(calls, str):
        yield ChatBlock(f"{ASSISTANT} calls", calls)
        return
    for one in calls if isinstance(calls, list) else [calls]:
        outer = one if isinstance(one, dict) else {}
        function = outer["function"] if isinstance(outer.get("function"), dict) else outer
        name = function.get("name")
        if not isinstance(name, str):
            raise ValueError(f"has {kind_name(one)} without a function's name as call in {place}")
        argument_key = next((one for one in _ARGUMENT_KEYS if function.get(one) is not None), "")
        yield _call(name, function.get(argument_key))
        name_others(function, ("name", argument_key, "type"), f"{key}.", remarks)
        if function is not outer:
            name_others(outer, ("function", "type"), f"{key}.", remarks)


def _call(name: str, arguments: object) -> ChatBlock:
    return ChatBlock(f"{ASSISTANT} calls {name}", arguments if isinstance(arguments, str) else json_text(arguments or {}))


def name_others(value: Mapping[Any, Any], handled: Sequence[str | None], before: str, remarks: Remarks) -> None:
    """Remark the keys that have a value and are not handled; `before` is put before their names."""
    for name, one in value.items():
        if name not in handled and not is_empty(one):
            remarks.keys[f"{before}{name}"] = None


def _text_of(message: Mapping[str, Any], key: str, place: str) -> str:
    value = message.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError(f"has {kind_name(value)} as `{key}` in {place}, not text")


def _speaker(role: str) -> str:
    role = role.strip()
    return _SPEAKERS.get(role.lower(), role[:1].upper() + role[1:])


def _is_off(switch: str, message: Mapping[str, Any]) -> bool:
    value = message.get(switch)
    return value is False or (switch == "weight" and value is not None and not is_empty(value) and value == 0)


def is_empty(value: object) -> bool:
    """Whether there is no text and no number in it, such as in the fields that Parquet adds to objects that lack them."""
    match value:
        case None:
            return True
        case str():
            return not value or value.isspace()
        case list():
            return all(map(is_empty, value))
        case dict():
            return all(map(is_empty, value.values()))
        case _:
            return False


def json_text(value: object) -> str:
    """JSON without keys that are null, which Parquet adds to objects that lack them."""
    return json.dumps(_without_null(value), ensure_ascii=False, default=_plain)


def _without_null(value: object) -> object:
    match value:
        case dict():
            return {key: _without_null(one) for key, one in value.items() if one is not None}
        case list():
            return [_without_null(one) for one in value]
        case _:
            return value


def _plain(value: object) -> object:
    """Numbers of .json files are decimals; Parquet also has dates."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)


def kind_name(value: object) -> str:
    """What kind of JSON a value is, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string" if value and not value.isspace() else "an empty string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "an object"
        case int() | float():
            return "a number"
        case _:
            return type(value).__name__  # of Parquet, such as bytes
