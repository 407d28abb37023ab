"""The validation that the client requests before it uploads a README.md."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..card import check_card
from ..web import Json, text_field, with_json


def validate_yaml(_: Request, body: Json) -> Response:
    errors, warnings = check_card(text_field(body, "content"), text_field(body, "repoType", "model"))
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return JSONResponse(answer, status_code=400 if errors else 200)


routes = [Route("/api/validate-yaml", with_json(validate_yaml), methods=["POST"])]
