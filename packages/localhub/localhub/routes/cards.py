"""The validation that the client requests before it uploads a README.md."""

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..card import check_card
from ..web import Json, text_field, with_json


def validate_yaml(request: Request, body: Json) -> Response:
    """JSON for uploads. `RepoCard.validate` asks for plain text, which it shows to its user."""
    errors, warnings = check_card(text_field(body, "content", is_content=True), text_field(body, "repoType", "model"))
    status = 400 if errors else 200
    if request.headers.get("accept", "").startswith("text/plain"):
        lines = [f"- Error: {message}" for message in errors] + [f"- Warning: {message}" for message in warnings]
        return PlainTextResponse("\n".join(lines), status_code=status)
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return JSONResponse(answer, status_code=status)


routes = [Route("/api/validate-yaml", with_json(validate_yaml), methods=["POST"])]
