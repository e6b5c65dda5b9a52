"""report.html of an evaluation: one file that opens offline; what is shown is chosen here, the templates lay it out."""

from llavamed_cli.evaluation.report.page import write_report

__all__ = ["write_report"]
