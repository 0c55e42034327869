"""An application of FastAPI, the same behind each server."""

from __future__ import annotations

from fastapi import FastAPI

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/items/{item_id}")
@app.get("/app/items/{item_id}")
async def item(item_id: int, q: str = "") -> dict[str, int | str]:
    return {"item": item_id, "q": q}
