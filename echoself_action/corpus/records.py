"""One record of a JSON or Parquet corpus -> its text.

Supported: `text`; chats as `messages` (OpenAI) or `conversations` (ShareGPT); `prompt` and
`completion`; `instruction`, `input` and `output` (Alpaca). A chat becomes plain text, one block for each message:

    System: You are Echo.

    User: Who are you?

    Assistant: I am Echo.
"""

_SPEAKERS = {"human": "User", "gpt": "Assistant", "bot": "Assistant"}  # ShareGPT's names

# Keys or columns with text. The first tuple whose names all exist is used.
TEXT_KEYS: tuple[tuple[str, ...], ...] = (
    ("text",),
    ("messages",),
    ("conversations",),
    ("prompt", "completion"),
    ("instruction", "output"),
)


def text_of_record(record: object) -> str:
    """The text of a record, with LF line ends.

    Raises ValueError if it has none; the message continues "record N ...".
    """
    if not isinstance(record, dict):
        raise ValueError(f"is {_kind(record)}, not an object with `text` or `messages`")
    keys = next((keys for keys in TEXT_KEYS if all(record.get(key) is not None for key in keys)), None)
    match keys:
        case None:
            known = ", ".join(str(key) for key in record) or "nothing"
            raise ValueError(f"has neither `text` nor `messages` (it has {known})")
        case ("text",):
            text = _string(record["text"], "text")
        case ("messages",):
            text = _chat(record["messages"], "messages", "role", "content")
        case ("conversations",):
            text = _chat(record["conversations"], "conversations", "from", "value")
        case ("prompt", "completion"):
            # joined as they are: a space between prompt and completion is part of the data
            text = _string(record["prompt"], "prompt") + _string(record["completion"], "completion")
        case _:
            question = _string(record["instruction"], "instruction")
            if record.get("input"):
                question += "\n\n" + _string(record["input"], "input")
            text = f"User: {question}\n\nAssistant: {_string(record['output'], 'output')}"
    if not text or text.isspace():
        raise ValueError("has an empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has an unpaired surrogate (\\ud800 to \\udfff) in its text") from None
    return text.replace("\r\n", "\n")


def _chat(messages: object, key: str, role_key: str, content_key: str) -> str:
    if not isinstance(messages, list) or not messages:
        raise ValueError(f"has {_kind(messages)} as `{key}`, not a list of messages")
    blocks = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get(role_key), str):
            raise ValueError(f"has no `{role_key}` in message {number} of `{key}`")
        content = _content(message.get(content_key), f"`{content_key}` in message {number} of `{key}`")
        if content:  # a message that only calls a tool has no content
            role = message[role_key]
            blocks.append(f"{_SPEAKERS.get(role, role.capitalize())}: {content}")
    return "\n\n".join(blocks)


def _content(content: object, place: str) -> str:
    """A message's content: a string, null, or OpenAI's list of parts, of which those with text are used."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "\n\n".join(part["text"] for part in content if isinstance(part.get("text"), str))
    raise ValueError(f"has {_kind(content)} as {place}, not text")


def _string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has {_kind(value)} as `{key}`, not text")
    return value


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "an object"
        case _:
            return "a number"
