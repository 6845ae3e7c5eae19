"""The one shape of every error that the API answers with."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from seamless import wire
from seamless.errors import SeamlessError


def error_response(error: SeamlessError) -> JSONResponse:
    """`error` as JSON, with its HTTP status."""
    body: wire.ErrorJSON = {
        "error": {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    }
    return JSONResponse(body, status_code=error.http_status)
