"""The peer of `http`: two endpoints of the original service, in simple FastAPI and SQLAlchemy.

`python -m tests.benchmarks.plain_service DATABASE_URL PORT`. It uses a session for each request and an object for each
row, and its analysis reads the rows and computes in Python. With `/sql` after the path, the database computes instead,
the next obvious step. Unlike the original it has an index over device and time, a pool of the API's size, and no log of
each statement or request.
"""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from statistics import median
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import DateTime, Float, ForeignKey, Identity, Index, Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from query_api.serve.pools import QUICK, SLOW

Sessions = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    """The tables of this service."""


class Device(Base):
    __tablename__ = "plain_devices"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]


class Stat(Base):
    __tablename__ = "plain_stats"
    __table_args__ = (Index("plain_stats_of_device", "device_id", "timestamp"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("plain_devices.id"))
    x: Mapped[float] = mapped_column(Float)
    y: Mapped[float] = mapped_column(Float)
    z: Mapped[float] = mapped_column(Float)
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


Axis = Annotated[float, Field(ge=-1000, le=1000)]


class NewStat(BaseModel):
    device_id: int
    x: Axis
    y: Axis
    z: Axis


class StoredStat(NewStat):
    id: int
    timestamp: datetime


class Figures(BaseModel):
    min: float
    max: float
    sum: float
    count: int
    median: float


class Analysis(BaseModel):
    x: Figures
    y: Figures
    z: Figures


def create_app(url: str) -> FastAPI:
    """Return the service for the database."""
    engine = create_async_engine(
        url.replace("postgresql", "postgresql+asyncpg", 1), pool_size=QUICK + SLOW, max_overflow=0
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def tables(_: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=tables)
    _add_routes(app, _opening(sessions))
    return app


def _opening(sessions: Sessions) -> Callable[[], AsyncIterator[AsyncSession]]:
    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    return session


def _add_routes(app: FastAPI, session: Callable[[], AsyncIterator[AsyncSession]]) -> None:
    @app.post("/stats", response_model=StoredStat, status_code=201)
    async def add_stat(given: NewStat, db: Annotated[AsyncSession, Depends(session)]) -> Stat:
        stat = Stat(**given.model_dump())
        db.add(stat)
        try:
            await db.commit()
        except IntegrityError:
            raise HTTPException(400, "there is no such device") from None
        await db.refresh(stat)
        return stat

    @app.get("/stats/analysis/{device_id}")
    async def analyse(
        device_id: int,
        db: Annotated[AsyncSession, Depends(session)],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Analysis:
        await _require(db, device_id)
        stats = (await db.scalars(_within(select(Stat), device_id, start, end))).all()
        return Analysis(
            x=_figures([stat.x for stat in stats]),
            y=_figures([stat.y for stat in stats]),
            z=_figures([stat.z for stat in stats]),
        )

    @app.get("/stats/analysis/{device_id}/sql")
    async def analyse_in_sql(
        device_id: int,
        db: Annotated[AsyncSession, Depends(session)],
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Analysis:
        await _require(db, device_id)
        row = (await db.execute(_within(select(*_AGGREGATES), device_id, start, end))).one()
        figures = [Figures(**dict(zip(Figures.model_fields, row[at : at + 5], strict=True))) for at in (0, 5, 10)]
        return Analysis(x=figures[0], y=figures[1], z=figures[2])


async def _require(db: AsyncSession, device_id: int) -> None:
    if await db.get(Device, device_id) is None:
        raise HTTPException(404, f"there is no device {device_id}")


def _within(query: Select, device_id: int, start: datetime | None, end: datetime | None) -> Select:
    query = query.where(Stat.device_id == device_id)
    if start is not None:
        query = query.where(Stat.timestamp >= start)
    if end is not None:
        query = query.where(Stat.timestamp <= end)
    return query


def _figures(values: Sequence[float]) -> Figures:
    if not values:
        return Figures(min=0, max=0, sum=0, count=0, median=0)
    return Figures(min=min(values), max=max(values), sum=sum(values), count=len(values), median=median(values))


_AGGREGATES = [
    func.coalesce(aggregate, 0)
    for axis in (Stat.x, Stat.y, Stat.z)
    for aggregate in (
        *(func.min(axis), func.max(axis), func.sum(axis), func.count(axis)),
        func.percentile_cont(0.5).within_group(axis),
    )
]


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), access_log=False, log_level="warning")
