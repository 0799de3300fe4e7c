"""`devicestat work` that seals, settles and scrubs without rests, in small blocks, so that a kill interrupts it.

Run as `python -m tests.faults.brief_sealer work`. Everything else is unchanged.
"""

from datetime import timedelta
from functools import partial

from deploy.cli.main import main
from query_api.worker import sealing, service, settling
from query_api.worker.maintenance import scrub
from query_api.worker.tuning import Tuning
from tests.blocks import SMALL

MARGIN = timedelta(minutes=8)
"""About half of the readings of a stress are older when they are stored, and so late."""
BRIEF = Tuning(seal_s=0.05, settle_s=0.1, scrub_s=0.1, jitter_s=0.05)


if __name__ == "__main__":
    service.Sealing = partial(  # type: ignore[misc, assignment]
        sealing.Sealing, layout=SMALL, margin=MARGIN, soonest_s=0.05, latest_s=0.05, share=1.0
    )
    service.Settling = partial(  # type: ignore[misc, assignment]
        settling.Settling, layout=SMALL, settle_after=timedelta(), share=1.0
    )
    service.Scrub = partial(scrub.Scrub, layout=SMALL, share=1.0)  # type: ignore[misc, assignment]
    service.work = partial(service.work, tuning=BRIEF)  # type: ignore[assignment]
    main()
