"""What is asked of the pump manual."""

# ruff: noqa: E501 (a paragraph or question is one line here)

from __future__ import annotations

from functools import partial

from source.questions import MANUAL, Asked

manual = partial(Asked, file=MANUAL)

OF_MANUAL = [
    manual(
        "How many vanes does the impeller of the TWX 65 have?",
        answers=("seven", "7"),
        needles=("seven vanes on the TWX 65",),
        kind="two-model",
    ),
    manual(
        "mechanical seal diameter TWX 40",
        answers=("28 mm",),
        needles=("28 mm on the TWX 40",),
        kind="two-model",
    ),
    manual(
        "What is the largest share of glycol that may be pumped?",
        answers=("40 %",),
        needles=("up to 40 % glycol",),
    ),
    manual(
        "Which torque do I use for the seal gland nuts on the TWX 65?",
        answers=("17 Nm",),
        needles=("Seal gland nuts M8 / M8 14 Nm 17 Nm",),
        kind="table",
    ),
    manual(
        "casing cover bolts torque TWX 40",
        answers=("38 Nm",),
        needles=("Casing cover bolts M10 / M12 38 Nm",),
        kind="table",
    ),
    manual(
        "Impeller nut tightening torque for the bigger pump, TWX 65?",
        answers=("95 Nm",),
        needles=("55 Nm 95 Nm",),
        kind="table",
    ),
    manual(
        "maximum working pressure of the TWX 65",
        answers=("16 bar", "16"),
        needles=("Maximum working pressure 10 16 bar",),
        kind="table",
    ),
    manual(
        "How often may the TWX 65 be started per hour at most?",
        answers=("12",),
        needles=("Maximum starts per hour 20 12",),
        kind="table",
    ),
    manual(
        "NPSH required TWX 40 at rated flow",
        answers=("2.4 m", "2.4"),
        needles=("NPSH required at rated flow 2.4 3.1",),
        kind="table",
    ),
    manual(
        "What does a TWX 65 weigh together with its motor?",
        answers=("118 kg", "118"),
        needles=("Mass with motor 64 118",),
        kind="table",
    ),
    manual(
        "What current do I set on the motor protection switch of the TWX 40?",
        answers=("6.4 A", "6.4"),
        needles=("Motor protection switch setting 6.4 15.0",),
        kind="table",
    ),
    manual(
        "At which temperature do the PTC thermistors in the winding trip?",
        answers=("145 °C",),
        needles=("trip at 145 °C",),
    ),
    manual(
        "How long do I have to wait after switching off until the converter's capacitors are discharged?",
        answers=("5 minutes",),
        needles=("at least 5 minutes until the capacitors",),
    ),
    manual(
        "How fast does dry running ruin the seal?",
        answers=("20 seconds",),
        needles=("within 20 seconds",),
    ),
    manual(
        "fault E07 meaning",
        answers=("Air in casing",),
        needles=("E07 Air in casing",),
        kind="table",
    ),
    manual(
        "The display shows E13. What is wrong and what should I do?",
        answers=("Replace the sensor", "Temperature sensor"),
        needles=("E13 Temperature sensor", "Replace the sensor"),
        kind="table",
    ),
    manual(
        "What causes fault E06?",
        answers=("Discharge pressure above the limit", "valve closed"),
        needles=("E06 Seal chamber pressure high",),
        kind="table",
    ),
    manual(
        "which batery type does the TWM 2 need",
        answers=("CR2477",),
        needles=("battery type CR2477",),
        kind="table",
    ),
    manual(
        "Remedy when the bus times out (E20)?",
        answers=("Check wiring", "termination 120 ohm"),
        needles=("E20 Bus timeout",),
        kind="table",
    ),
    manual(
        "How long must the bypass of the resting pump be open at changeover?",
        answers=("40 seconds",),
        needles=(
            "open the bypass of the pump that is to rest for exactly 40 seconds",
            "its discharge side is closed, because otherwise",
        ),
        kind="page-break",
        crosses=True,
    ),
    manual(
        "Why must the bypass be opened before the discharge valve of the resting pump is closed?",
        answers=("draws a vacuum", "pulls air through the seal"),
        needles=("open the bypass of the pump that is to rest", "draws a vacuum when it cools"),
        kind="page-break",
        crosses=True,
    ),
    manual(
        "After how many operating hours should two pumps sharing one duty be swapped?",
        answers=("250",),
        needles=("every 250 operating hours",),
    ),
    manual(
        "vibration trip value TWX 65 at delivery",
        answers=("9.0",),
        needles=("Vibration trip in mm/s 7.1 9.0",),
        kind="table",
    ),
    manual(
        "What is parameter P06 set to on a TWX 40?",
        answers=("0.3",),
        needles=("P06 Dry-run pressure threshold in bar 0.3 0.4",),
        kind="table",
    ),
    manual(
        "Setting length of the seal for the TWX 40?",
        answers=("42.5 mm",),
        needles=("42.5 mm on the TWX 40",),
        kind="two-model",
    ),
    manual(
        "part number mechanical seal SiC/SiC for TWX 65",
        answers=("TW-33233",),
        needles=("Mechanical seal S2, SiC/SiC TW-33228 TW-33233",),
        kind="table",
    ),
    manual(
        "What is the article number of the two-year service kit for the TWX 40?",
        answers=("TW-39402",),
        needles=("TW-39402 for the TWX 40",),
        kind="two-model",
    ),
    manual(
        "Which grease is approved for the TWX 65, article number?",
        answers=("TW-80114",),
        needles=("approved grease is TW-80114",),
    ),
    manual(
        "How much grease goes into the drive side bearing?",
        answers=("11 g",),
        needles=("Press in 11 g at the drive side",),
    ),
    manual(
        "When is the wear ring of a TWX 65 due for replacement, what clearance?",
        answers=("0.90 mm", "0.90"),
        needles=("Limit for replacement 0.75 0.90",),
        kind="table",
    ),
    manual(
        "how often replace coupling element on the TWX 65",
        answers=("12000 h", "12000"),
        needles=("Replace coupling element 16000 h 12000 h",),
        kind="table",
    ),
    manual(
        "Which frequency range has to be blocked in the converter?",
        answers=("37 Hz and 39 Hz", "37 Hz", "37"),
        needles=("Between 37 Hz and 39 Hz",),
    ),
    manual(
        "Anchor bolts for the TWX 65 foundation?",
        answers=("M16 x 200",),
        needles=("M16 x 200 for the TWX 65",),
        kind="two-model",
    ),
    manual(
        "What baud rate does the serial line of the monitoring unit use?",
        answers=("19200",),
        needles=("19200 baud",),
        kind="table",
    ),
    manual(
        "How many events can the monitoring unit store?",
        answers=("512",),
        needles=("last 512 events",),
    ),
    manual(
        "What was changed in revision C of the manual?",
        answers=("Resonance range of base frame F2 added", "Resonance range"),
        needles=("Resonance range of base frame F2 added",),
        kind="table",
    ),
    manual(
        "To which temperature are new bearings heated before they are fitted?",
        answers=("100 °C",),
        needles=("Heat the new bearings to 100 °C",),
    ),
    manual(
        "Permissible moment at the discharge nozzle of the TWX 65?",
        answers=("290 Nm", "290"),
        needles=("TWX 65 discharge DN 65 640 590 720 290",),
        kind="table",
    ),
    manual(
        "How long does the warranty last?",
        answers=("24 months",),
        needles=("warranty period is 24 months",),
    ),
    manual(
        "Who is allowed to replace seals and bearings?",
        answers=("TW-T2",),
        needles=("Fitter with training course TW-T2",),
        kind="table",
    ),
    manual(
        "leakage allowed during the first eight hours",
        answers=("5 ml",),
        needles=("up to 5 ml per hour, are normal",),
    ),
    manual(
        "What material is the TWX 40 impeller made of?",
        answers=("Bronze CuSn10", "CuSn10"),
        needles=("Impeller Bronze CuSn10",),
        kind="table",
    ),
    manual(
        "Meaning of E19 on the display?",
        answers=("Maintenance due",),
        needles=("E19 Maintenance due",),
        kind="table",
    ),
    manual(
        "How many watts does the heated bearing bracket draw?",
        answers=("60 W",),
        needles=("Heated bearing bracket, 60 W",),
        kind="table",
    ),
    manual(
        "Is there a temperature sensor option for the pump-side bearing, and what is it called?",
        answers=("PT",),
        needles=("PT Second temperature sensor",),
        kind="table",
    ),
    manual(
        "What fuse protects the monitoring unit and where is it?",
        answers=("315 mA", "behind the cover"),
        needles=("315 mA slow-blow",),
    ),
    manual(
        "How far may the sensor cables be extended?",
        answers=("10 m",),
        needles=("may be extended to 10 m",),
    ),
    manual(
        "By how much does power consumption rise with 40 percent glycol?",
        answers=("9 %",),
        needles=("by 9 % at 40 % glycol",),
    ),
    manual(
        "Normal bearing temperature of the TWX 65 on the daily round",
        answers=("50 to 75",),
        needles=("Bearing temperature in °C 45 to 70 50 to 75",),
        kind="table",
    ),
    manual(
        "How do I read out the event memory?",
        answers=('hold "ack" and "up" together', "5 seconds"),
        needles=('hold "ack" and "up" together for 5 seconds',),
    ),
    manual(
        "Which explosion protection zone is the pump approved for, zone 1 or zone 2?",
        answers=("not approved",),
        needles=("not approved for potentially explosive",),
        kind="false-premise",
    ),
]
