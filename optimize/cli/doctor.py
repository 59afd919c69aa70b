"""`optimize doctor`."""

from __future__ import annotations

import json
import sys

import cloup

from optimize.cli.one_line_errors import one_line_errors
from optimize.cli.options import json_option
from optimize.cli.printing import say


@cloup.command()
@cloup.option("--roofline", is_flag=True, help="Also measure, in seconds, what arithmetic and memory of this machine reach.")
@cloup.option("--threads", metavar="N", help="Number of threads for --roofline; by default all cores.")
@json_option("the diagnosis")
def doctor(roofline: bool, threads: str | None, as_json: bool) -> None:
    """Say which targets run on this machine, and why others do not.

    Exit code: 0 when at least one target runs here, else 4.
    """
    with one_line_errors(as_json):
        from optimize.run.doctor import doctor as diagnose
        from optimize.run.doctor import lines

        diagnosis = diagnose(roofline=roofline, threads=threads)
        say(json.dumps(diagnosis.as_dict(), sort_keys=True) if as_json else "\n".join(lines(diagnosis)))
    sys.exit(diagnosis.exit_code)
