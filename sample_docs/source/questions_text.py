"""What is asked of the log, the paper and the note, and of all what none of them answers."""

from __future__ import annotations

from functools import partial

from source.questions import LOG, MANUAL, NOTE, PAPER, Asked
from source.questions_manual import OF_MANUAL

log = partial(Asked, file=LOG)
paper = partial(Asked, file=PAPER)
note = partial(Asked, file=NOTE, kind="ocr")

OF_LOG = [
    log(
        "When did the first OutOfMemoryError occur?",
        answers=("09:47:33.918", "09:47:33"),
        keys=("oom1",),
        kind="log-first",
    ),
    log(
        "time of the last OutOfMemoryError",
        answers=("10:31:09.731", "10:31:09"),
        keys=("oom4",),
        kind="log-last",
    ),
    log(
        "How many times did an OutOfMemoryError happen?",
        answers=("4",),
        counted="OutOfMemoryError",
        kind="log-count",
    ),
    log(
        "How many ReservationTimeoutException stack traces are there?",
        answers=("23",),
        counted="ReservationTimeoutException",
        kind="log-count",
    ),
    log(
        "How many full GC pauses did inventory report?",
        answers=("9",),
        counted="GC pause",
        kind="log-count",
    ),
    log(
        "How many failed logins were there for svc-report?",
        answers=("14",),
        counted="login failed for svc-report",
        kind="log-count",
    ),
    log(
        "Which configuration change did ops-3 apply?",
        answers=("CHG-20417",),
        keys=("change",),
        kind="log-cause",
    ),
    log(
        "What was inventory.cache.max-entries changed to on 12 March?",
        answers=("5000000",),
        keys=("change", "rollback"),
        n_places=2,
        kind="log-cause",
    ),
    log(
        "When did the circuit breaker open?",
        answers=("09:48:12.550", "09:48:12"),
        keys=("breaker_open",),
        kind="log-when",
    ),
    log(
        "when was the circuit breaker closed again",
        answers=("10:46:32.118", "10:46:32"),
        keys=("breaker_closed",),
        kind="log-when",
    ),
    log(
        "Which change rolled back CHG-20417?",
        answers=("CHG-20419",),
        keys=("rollback",),
        kind="log-cause",
    ),
    log(
        "Why could orders-db not write its WAL segment?",
        answers=("No space left on device",),
        keys=("db_full",),
        kind="log-cause",
    ),
    log(
        "How much disk space was freed by deleting the heap dumps?",
        answers=("27.3 GiB",),
        keys=("freed",),
    ),
    log(
        "What was the deepest reservation queue?",
        answers=("3412",),
        keys=("queue_peak", "drained"),
        n_places=2,
    ),
    log(
        "why did billing batch 8841 fail",
        answers=("DiskFull", "could not extend file", "No space left on device"),
        keys=("billing0",),
        kind="log-cause",
    ),
    log(
        "When was incident INC-7731 opened?",
        answers=("09:49:10.000", "09:49:10"),
        keys=("inc_open",),
        kind="log-when",
    ),
    log(
        "Which order service version was rolled out on 11 March?",
        answers=("5.18.2",),
        keys=("deploy",),
    ),
    log("How long did the slow query take?", answers=("8412 ms",), keys=("slow",)),
    log(
        "From which address came the failed logins?",
        answers=("10.20.7.91",),
        keys=tuple(f"login{i}" for i in range(14)),
        n_places=14,
    ),
    log(
        "What made the job quarterly-export fail?",
        answers=("MemoryError", "limit of 512 MiB"),
        keys=("memory_error",),
        kind="log-cause",
    ),
    log("ValueError in billing-worker, which VAT id?", answers=("XX-0000",), keys=("vat",)),
    log(
        "In how many days does the certificate of api.shop.example expire?",
        answers=("21 days",),
        keys=("cert",),
    ),
    log("How large was the second nightly backup?", answers=("42.3 GiB",), keys=("backup1",)),
]

OF_PAPER = [
    paper(
        "How many seal failures were observed in the field study?",
        answers=("47",),
        needles=("observed 47 seal failures",),
        kind="two-column",
    ),
    paper(
        "Median lead time of the combined classifier",
        answers=("11.5 days",),
        needles=("median of 11.5 days before leakage",),
        kind="two-column",
    ),
    paper(
        "How many of the failures did the plain broadband threshold warn of?",
        answers=("19",),
        needles=("Broadband threshold 19 0.6 1.4",),
        kind="two-column",
    ),
    paper(
        "At what rate was the vibration signal sampled?",
        answers=("25.6 kHz",),
        needles=("sampled at 25.6 kHz",),
        kind="two-column",
    ),
    paper(
        "How much did one logger cost?",
        answers=("340 euro",),
        needles=("The loggers cost 340 euro each",),
        kind="two-column",
    ),
    paper(
        "which feature is the most important one",
        answers=("friction index",),
        needles=("the friction index comes first",),
        kind="two-column",
    ),
    paper(
        "How many false alarms were caused by cavitation?",
        answers=("14",),
        needles=("14 were caused by cavitation",),
        kind="two-column",
    ),
    paper(
        "Failures in cooling water plants?",
        answers=("21",),
        needles=("Cooling water 22 148 900 21",),
        kind="two-column",
    ),
    paper(
        "What does an unplanned seal replacement cost on average?",
        answers=("1,260 euro",),
        needles=("1,260 euro on average",),
        kind="two-column",
    ),
    paper(
        "Why was the phase between current and vibration useless?",
        answers=("clock of the logger drifts", "drifts by up to 3 ms"),
        needles=("clock of the logger drifts",),
        kind="two-column",
    ),
    paper(
        "How deep are the boosted trees at most?",
        answers=("four", "4"),
        needles=("depth of at most four",),
        kind="two-column",
    ),
    paper(
        "What happened with pump 44?",
        answers=("fine radial crack", "unexplained"),
        needles=("The last one, pump 44, remains unexplained",),
        kind="two-column",
    ),
    paper(
        "What share of unplanned stops was due to the seal?",
        answers=("58 %",),
        needles=("58 % of all unplanned stops",),
        kind="two-column",
    ),
    paper(
        "How many starts per week are enough to keep the lead above ten days?",
        answers=("three",),
        needles=("at least three starts a week",),
        kind="two-column",
    ),
    paper(
        "At which frequency was the amplitude of the accelerometers checked?",
        answers=("159.2 Hz",),
        needles=("159.2 Hz",),
        kind="two-column",
    ),
    paper(
        "How many of the fitters and operators would keep the system?",
        answers=("Twenty-four", "24"),
        needles=("Twenty-four would keep",),
        kind="two-column",
    ),
]

OF_NOTE = [
    note("What is the delivery note number?", answers=("DN-58213",)),
    note("How many mechanical seals were delivered?", answers=("3",)),
    note("Which pallet had a torn film?", answers=("Pallet 2", "2")),
    note("When are the sensor sets expected?", answers=("20 March 2026",)),
    note("gross weight of the delivery", answers=("486 kg",)),
]

ABSENT = [
    Asked(question, file, kind=kind, unanswerable=True)
    for question, file, kind in (
        ("What is the rated power of the TWX 80?", MANUAL, "wrong-model"),
        ("Which torque applies to the casing cover bolts of the TWX 100?", MANUAL, "wrong-model"),
        ("What does fault code E25 mean?", MANUAL, "absent"),
        ("How much does a mechanical seal for the TWX 40 cost?", MANUAL, "absent"),
        ("What is the telephone number of the service hotline?", MANUAL, "absent"),
        ("How do I connect the TWM 2 to a wireless network?", MANUAL, "adjacent"),
        ("Which oil does the gearbox of the pump need?", MANUAL, "adjacent"),
        ("What is the colour of the paint of the volute casing?", MANUAL, "absent"),
        ("Until when is the pump certified for drinking water?", MANUAL, "adjacent"),
        ("Who is the chief executive of the manufacturer?", MANUAL, "absent"),
        ("When did the payment-service crash?", LOG, "wrong-model"),
        ("Which kernel version runs on node-4?", LOG, "absent"),
        ("How many customers complained about the outage?", LOG, "adjacent"),
        ("What is the password of svc-report?", LOG, "absent"),
        ("Which company made the network switch in rack 3?", LOG, "absent"),
        ("Who funded the field study?", PAPER, "absent"),
        ("How many wind turbines were monitored?", PAPER, "adjacent"),
        ("What accuracy did the transformer language model reach?", PAPER, "adjacent"),
        ("How many bearings were replaced during the study?", PAPER, "adjacent"),
        ("What is the capital of Mongolia?", MANUAL, "adjacent"),
        ("At what temperature does the TWX 25 trip?", MANUAL, "wrong-model"),
        ("How many litres of oil does the cooling circuit hold?", MANUAL, "adjacent"),
        ("How long did the outage of the search-index service last?", LOG, "wrong-model"),
    )
]

QUESTIONS = [*OF_MANUAL, *OF_LOG, *OF_PAPER, *OF_NOTE, *ABSENT]
