"""The command line's side of the control API."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx

from dragoman.config.paths import Home
from dragoman.config.tokens import ensure_control_token
from dragoman.errors import DragomanError

# Control may have to be started first: requests are held up to ten seconds for that.
_TIMEOUT_S = 20.0


class ControlRefused(DragomanError):
    """The control API said no, or did not answer."""

    code = "control_failed"
    http_status = 502


class ControlClient:
    """Calls the control API of one daemon.

    Parameters:
        home: whose control token is shown.
        url: the daemon's address.
    """

    def __init__(self, home: Home, url: str) -> None:
        token = ensure_control_token(home)
        # trust_env off: a proxy of the user's is not for the loopback.
        self._http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | list[str]) -> Any:
        """The JSON at a path below `/api/v1`.

        Raises:
            ControlRefused: an error answer, or none at all.
        """
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON to a path below `/api/v1`.

        Raises:
            ControlRefused: an error answer, or none at all.
        """
        return self._ask("POST", path, json=body)

    def mint_token(self, *, scope: str, run: str, models: list[str], expires_in_s: float) -> str:
        """A new token's secret.

        Parameters:
            scope: `data`, `run` or `control`.
            run: the run it is made for.
            models: the only models it may ask for.
            expires_in_s: seconds until it ends by itself.
        """
        body = {"scope": scope, "run": run, "models": models, "expires_in_s": expires_in_s}
        return self.post("/tokens", body)["secret"]

    def usage(self, *, run: str) -> dict[str, Any]:
        """The ledger's summary of one run."""
        return self.get("/usage", run=run)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, f"/api/v1{path}", **options)
        except httpx.HTTPError as error:
            raise ControlRefused(
                f"the control API at {self._http.base_url} does not answer: {type(error).__name__}",
                hint="dragoman status",
            ) from None
        if answer.is_success:
            return answer.json()
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> ControlRefused:
    """An error answer in the control API's own shape, or in a wire's when the gateway itself spoke."""
    try:
        said = answer.json()
    except ValueError:
        said = {}
    match said:
        case {"error": str(message)}:
            return ControlRefused(message, hint=said.get("next"), code=said.get("error_code"))
        case {"error": {"message": str(message)}}:
            return ControlRefused(message, hint="dragoman logs")
        case _:
            path = answer.request.url.path
            return ControlRefused(f"{path} answered {answer.status_code}", hint="dragoman logs")
