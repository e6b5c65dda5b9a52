"""What build-data is asked for, checked where it is made; what of it makes a data set another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llavamed_cli.errors import UsageError

PMC_URL = "https://pmc-oa-opendata.s3.amazonaws.com/"
"""The bucket of PMC's cloud service (facts in NLM's documentation of the PMC Open Access Subset on AWS)."""
RULES = "rules"
"""The offline teacher; any other name is a model behind an OpenAI-compatible endpoint."""

Panels = Literal["keep", "drop", "split"]
Charts = Literal["drop", "keep"]
Duplicates = Literal["drop", "keep"]
EngineName = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class CloudOptions:
    """How PubMed Central is reached. cache: where fetched objects are kept; None: in the output folder, until done."""

    url: str = PMC_URL
    concurrency: int = 8
    cache: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Who writes conversations, at what price.

    name: "rules", or a model. budget: US dollars that are never passed. price: dollars per million tokens, read and
    written; None: from the table that comes with llavamed.
    """

    name: str = RULES
    base_url: str | None = None
    batch: bool = False
    budget: float | None = None
    price: tuple[float, float] | None = None
    concurrency: int = 16

    def __post_init__(self) -> None:
        if self.name == RULES and (self.base_url or self.batch or self.budget is not None or self.price):
            raise UsageError(
                "--base-url, --batch, --budget and --price are for a teacher that is a model",
                hint="Name it with --teacher, e.g. --teacher gpt-4o.",
            )
        if self.budget is not None and self.budget <= 0:
            raise UsageError(f"--budget is {self.budget:g}; it must be above 0 US dollars")
        if self.concurrency < 1:
            raise UsageError(f"--concurrency is {self.concurrency}; at least one request must be in flight")


@dataclass(frozen=True, kw_only=True)
class ScreenOptions:
    """What is kept. modalities: None for all. exclude: folders whose pictures must not be in the data set."""

    license: str = "any"
    min_quality: float = 0.0
    charts: Charts = "drop"
    panels: Panels = "keep"
    modalities: tuple[str, ...] | None = None
    duplicates: Duplicates = "drop"
    exclude: tuple[Path, ...] = ()
    clip: Path | None = None
    min_similarity: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_quality <= 1.0:
            raise UsageError(f"--min-quality is {self.min_quality}; a caption's quality is from 0 to 1")
        if self.min_similarity is not None and self.clip is None:
            raise UsageError("--min-similarity needs a CLIP to measure it", hint="Add --clip FOLDER.")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What build-data was asked for.

    limit: how many pictures to keep at most; None for all. balance: draw them evenly over the modalities.
    validation: the share of articles that is held out. workers, engine: who screens; they change nothing else.
    columns: of a table or hub data set, its picture's and its caption's. device: where a CLIP runs.
    """

    sources: tuple[str, ...]
    out: Path
    images: Path | None = None
    domain: str = "biomedical"
    screen: ScreenOptions = field(default_factory=ScreenOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    cloud: CloudOptions = field(default_factory=CloudOptions)
    columns: tuple[str | None, str | None] = (None, None)
    limit: int | None = None
    balance: bool = False
    validation: float = 0.0
    workers: int = 1
    engine: EngineName = "local"
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; at least one picture must be kept")
        if self.balance and self.limit is None:
            raise UsageError("--balance needs to know how many pictures to draw", hint="Add --limit N.")
        if not 0.0 <= self.validation < 1.0:
            raise UsageError(f"--validation is {self.validation}; it is a share of the articles, from 0 to below 1")
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; it must be 0 or more")

    def identity(self) -> dict[str, Any]:
        """The options that shape the data set; a repeated command with others is another run.

        Speed, place and budget are not among them: an interrupted run may go on with more of each.
        """
        screen, teacher = self.screen, self.teacher
        return {
            "sources": self.sources,
            "images": self.images,
            "domain": self.domain,
            "license": screen.license,
            "min_quality": screen.min_quality,
            "charts": screen.charts,
            "panels": screen.panels,
            "modalities": screen.modalities,
            "duplicates": screen.duplicates,
            "exclude": screen.exclude,
            "clip": screen.clip,
            "min_similarity": screen.min_similarity,
            "teacher": teacher.name,
            "base_url": teacher.base_url,
            "pmc_url": self.cloud.url,
            "columns": self.columns,
            "limit": self.limit,
            "balance": self.balance,
            "validation": self.validation,
        }
