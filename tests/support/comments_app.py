"""A FastAPI app that stands for KillrVideo's services: it checks tokens as they do, with python-jose."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer
from jose import JWTError, jwt
from pydantic import BaseModel

from tests.support.eventually import eventually

bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/users/login")


class Comment(BaseModel):
    """What somebody wrote about a video."""

    text: str
    author: str = ""


def comments_app(secret_key: str, algorithm: str = "ES256") -> FastAPI:
    """Return the app, with the settings SECRET_KEY and ALGORITHM."""
    app, comments = FastAPI(), dict[str, list[Comment]]()

    def caller(token: Annotated[str, Depends(bearer)]) -> str:
        try:
            return str(jwt.decode(token, secret_key, algorithms=[algorithm])["sub"])
        except JWTError:
            raise HTTPException(401, "Could not validate credentials", {"WWW-Authenticate": "Bearer"}) from None

    @app.post("/api/v1/videos/{video_id}/comments", status_code=201)
    def add(video_id: str, comment: Comment, user_id: Annotated[str, Depends(caller)]) -> Comment:
        comments.setdefault(video_id, []).append(comment.model_copy(update={"author": user_id}))
        return comments[video_id][-1]

    @app.get("/api/v1/users/{user_id}/comments")
    def by_author(user_id: str) -> list[Comment]:
        return [comment for written in comments.values() for comment in written if comment.author == user_id]

    return app


@contextmanager
def served(app: FastAPI, port: int) -> Iterator[str]:
    """Run an app, and provide its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive())
        assert server.started, f"port {port} is taken"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
