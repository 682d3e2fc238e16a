"""Chapters 7 to 12 and the appendices of the pump manual, in the markup that `manual.py` reads."""

# ruff: noqa: E501 (a paragraph or question is one line here)

CHAPTERS = """
# Commissioning

## Checks before the first start
1. The commissioning record TW-CR-0071 is at hand and the serial number is entered.
2. The shaft can be turned by hand without scraping.
3. All pipe connections are tight at 1.5 times the working pressure, held for 10 minutes.
4. The motor protection switch is set to the value in section {ref:data}.
5. The transport lock has been removed and the coupling guard is fitted.
6. The bridge between terminals 10 and 11 of the TWM 2 is replaced by the plant's release contact, if there is one.

## Filling and venting {#venting}
Open the suction valve fully and the vent screw on top of the casing by two turns. Fill until liquid without bubbles escapes, then close the vent screw with 12 Nm. With water-glycol mixtures repeat the venting after 10 minutes, because fine bubbles rise slowly. A suction lift needs a foot valve; the pump is not self-priming.

## Direction of rotation
Seen from the motor fan the shaft turns clockwise. Check the direction by starting for no more than one second with the pump filled. If it is wrong, exchange two phases at the motor terminals, never at the converter output.

## First start
1. Close the discharge valve to one quarter.
2. Start the motor and wait until it has reached its speed; this takes about 4 seconds with the factory ramp.
3. Open the discharge valve within 60 seconds to the operating point.
4. Read current, pressure and vibration after 15 minutes and enter them in the record.
5. After 2 hours tighten the bolts of the casing again with the torque of section {ref:torque}.

! NOTICE: A few drops of leakage at the seal, up to 5 ml per hour, are normal during the first 8 hours. After that the seal must be dry.

## Parameters of the monitoring unit {#parameters}
Parameters of level 1 may be changed by the operator, those of level 2 by a fitter after entering the code on the blue card supplied with the unit. Level 3 is reserved for the service of the manufacturer.

T Parameters of the TWM 2 at delivery | 18,72,28,28,24
| No. | Parameter | TWX 40 | TWX 65 | Level
| P01 | Vibration warning in mm/s | 4.5 | 5.6 | 1
| P02 | Vibration trip in mm/s | 7.1 | 9.0 | 2
| P03 | Trip delay for vibration in s | 8 | 8 | 2
| P04 | Bearing temperature warning in °C | 85 | 90 | 1
| P05 | Bearing temperature trip in °C | 100 | 105 | 2
| P06 | Dry-run pressure threshold in bar | 0.3 | 0.4 | 2
| P07 | Dry-run delay in s | 3 | 3 | 2
| P08 | Start-up bridging time in s | 12 | 15 | 2
| P09 | Serial address | 17 | 17 | 1
| P10 | Language of the display | EN | EN | 1
| P11 | Restart after power failure, 0 = off | 0 | 0 | 2
| P12 | Lock of factory values | 1 | 1 | 3

# Operation

## Starting and stopping
Start the pump only when it is filled. To stop it, close the discharge valve to one quarter, switch the motor off and let it run down; the run-down time must not be shorter than 6 seconds. A shorter run-down points to a rubbing impeller. Close both valves when the pump stands still for longer than one day.

## Minimum flow
The pump must not be operated below the minimum continuous flow of section {ref:data}. If the plant can throttle further, fit a bypass with an orifice of 9 mm for the TWX 40 or 14 mm for the TWX 65. Below the minimum flow the temperature of the liquid in the casing rises by about 4 K per minute.

## Stand-by and frost {#standby}
Below 3 °C drain the casing completely through the drain plug, or fill the plant with at least 30 % glycol, which protects down to -14 °C. The drain plug is tightened with 20 Nm and gets a new sealing ring every time it has been opened.

@room 31
When two pumps share one duty, change over every 250 operating hours so that the seal faces of the resting pump do not stick, and open the bypass of the pump that is to rest for exactly 40 seconds before the valve on its discharge side is closed, because otherwise the trapped warm liquid draws a vacuum when it cools and pulls air through the seal into the casing, which shows as fault E07 at the next start.

## Dry-run protection
The TWM 2 stops the pump when the pressure in the seal chamber stays below the threshold of parameter P06 for longer than the delay of P07. The protection is bridged during the start-up time of P08. After a dry-run stop the pump can be restarted only by a reset at the unit; a reset over the serial line is refused on purpose.

## Operation with a frequency converter {#converter}
The converter may run between 25 Hz and 52 Hz. Ramp times are 4 seconds up and 6 seconds down at the works. Between 37 Hz and 39 Hz the base frame F2 has a resonance; block this range in the converter. Use an output filter when the cable is longer than the limit in section {ref:electrical}. The switching frequency of the converter must be at least 4 kHz.

## Daily rounds
T What to look at on the daily round | 62,38,38,36
| Reading | TWX 40 | TWX 65 | Act when
| Discharge pressure in bar | 3.1 to 3.6 | 4.0 to 4.9 | outside for 1 day
| Bearing temperature in °C | 45 to 70 | 50 to 75 | above 80
| Vibration in mm/s | 0.9 to 2.2 | 1.2 to 2.8 | above 3.5
| Motor current in A | 4.8 to 5.9 | 11.5 to 14.0 | above rated current
| Drip tray | dry | dry | wet twice in a row

A slow rise of the bearing temperature by 5 K within one week at constant load announces a bearing failure earlier than vibration does. Enter the readings by hand even when the TWM 2 is connected to a control system: the log of the control system is overwritten after 35 days.

## Operation with glycol
The power consumption rises with the share of glycol, by 4 % at 20 % glycol and by 9 % at 40 % glycol, at 20 °C. The head hardly changes. Have the mixture analysed once a year; below a pH of 7.0 the inhibitor is used up. Old mixture must not be topped up with more than one tenth of its volume, since the inhibitors of different brands can form a gel that blocks the seal chamber.

# Maintenance {#maintenance}

## Maintenance intervals {#intervals}
T Maintenance plan | 72,38,38,32
| Work | TWX 40 | TWX 65 | Done by
| Check for leakage and noise | weekly | weekly | operator
| Check fixing bolts of the feet | 1000 h | 1000 h | fitter
| Clean motor fan and fins | 2000 h | 2000 h | operator
| Regrease bearings | not applicable | 4000 h | fitter
| Check alignment of coupling | 4000 h | 4000 h | fitter
| Replace coupling element | 16000 h | 12000 h | fitter
| Replace mechanical seal | 12000 h | 10000 h | fitter, TW-T2
| Replace bearings | 20000 h | 25000 h | fitter, TW-T2
| Replace battery of TWM 2 | 5 years | 5 years | electrician
| Test dry-run protection | 6 months | 6 months | fitter

Halve the intervals when the liquid is hotter than 80 °C or when the pump runs more than 20 hours a day.

## Lubrication of the TWX 65
Use a lithium-complex grease of consistency 2 with a base oil viscosity of 110 mm2/s at 40 °C. Press in 11 g at the drive side and 9 g at the pump side while the shaft turns at no more than 1000 1/min. Remove old grease at the drain slot after 30 minutes of running. Never mix greases with different thickeners; when changing the brand, wash out the bearing first. The article number of the approved grease is TW-80114, a cartridge of 400 g.

## Tightening torques {#torque}
T Tightening torques, threads lightly oiled | 70,30,35,35
| Joint | Thread | TWX 40 | TWX 65
| Casing cover bolts | M10 / M12 | 38 Nm | 66 Nm
| Seal gland nuts | M8 / M8 | 14 Nm | 17 Nm
| Impeller nut, left-hand thread | M16 / M20 | 55 Nm | 95 Nm
| Bearing cover screws | M6 / M8 | 9 Nm | 22 Nm
| Feet to base frame | M12 / M16 | 70 Nm | 170 Nm
| Coupling clamp screws | M8 / M10 | 30 Nm | 59 Nm
| Drain plug | G 3/8 | 20 Nm | 20 Nm

Tighten the casing cover bolts crosswise in three steps of 30 %, 70 % and 100 % of the value. Self-locking nuts are used once only.

## Replacing the mechanical seal {#seal}
! CAUTION: The seal faces break easily. Do not touch them with bare fingers and never put them down on the sliding face.

1. Lock out the pump as in section {ref:lockout} and drain it.
2. Remove the coupling guard, the coupling element and the eight bolts of the casing cover. Pull the bearing bracket with the impeller straight out of the casing with the two jacking screws M10.
3. Hold the shaft with the key TW-70233 and loosen the impeller nut; it has a left-hand thread.
4. Pull off the impeller with the puller TW-70240. Do not knock against the vanes.
5. Slide the rotating part of the seal off the shaft and press the stationary ring out of the cover from behind.
6. Clean the seat. The shaft must be free of grooves deeper than 0.02 mm; otherwise replace the shaft sleeve.
7. Moisten the secondary seals with soapy water. For EPDM never use grease or oil.
8. Press in the new stationary ring by hand with the assembly sleeve TW-70251 and slide on the rotating part until the setting length is reached: 42.5 mm on the TWX 40 and 47.0 mm on the TWX 65, measured from the shaft shoulder.
9. Refit the impeller and tighten the nut with the torque of section {ref:torque}. Check that the shaft can be turned by hand.
10. Fit a new casing gasket, close the pump, vent it as in section {ref:venting} and watch the seal for 30 minutes.

The work takes two fitters about 2.5 hours on the TWX 40 and 3.5 hours on the TWX 65. Replace both faces even if only one is damaged.

## Replacing the bearings
Remove the impeller and the seal first. Drive the shaft out towards the motor side. Heat the new bearings to 100 °C in an induction heater, never above 120 °C and never over an open flame, and push them against the shoulder. The axial play of the finished shaft must lie between 0.10 mm and 0.25 mm; correct it with the shims of set TW-33017. After fitting, the vibration at no load must stay below 1.8 mm/s.

## Wear ring clearance
T Diametral clearance between impeller and wear ring | 70,35,35,30
| Condition | TWX 40 | TWX 65 | Unit
| New | 0.30 | 0.35 | mm
| Limit for replacement | 0.75 | 0.90 | mm
| Head lost at the limit, about | 6 | 5 | %

F Measuring the wear ring clearance at four points, 90 degrees apart | ring | 110

# Troubleshooting

## How faults are shown
The lamp on the monitoring unit is green in normal operation, flashes yellow once per second for a warning and is steadily red after a trip. The relay contact between terminals 3 and 4 opens on a trip and on loss of supply, but not on a warning. Every event is stored with date, time, code and the measured value; the value is frozen 0.5 seconds before the trip so that it shows the cause and not the run-down.

Proceed in this order: read the code, read the frozen value, compare it with the entry of the commissioning record, and only then reset. Experience shows that two thirds of all trips are caused by the plant, not by the pump: closed valves, blocked strainers and a low level in the suction tank come first. A pump that was tripped by E01 or E02 must not be restarted from the control room before somebody has listened to it at close range.

If the display stays dark although the lamp is lit, the display is asleep; any key wakes it. If both are dark, measure the supply at terminals 1 and 2. The fine-wire fuse of the unit is a 315 mA slow-blow type and sits behind the cover with the blue card.

Several faults at the same time are shown one after the other, the oldest first. The unit suppresses E04 for 10 seconds after a start and E01 for the time of parameter P08, since the current and the vibration of a pump that is running up say little. Faults that come and go within less than one second are counted but not shown; the counter is found in the service menu under "short events" and should be below 20 per week.

## Fault codes of the monitoring unit {#faults}
The display alternates between the code and the measured value. Codes below E10 stop the pump, codes from E10 on are warnings, with the exception of E15, which stops the pump after a further 60 seconds.

T Fault codes, causes and remedies | 14,42,60,64
| Code | Meaning | Cause | Remedy
| E01 | Vibration trip | Misalignment, cavitation, worn bearing | Check alignment, suction head and bearing temperature
| E02 | Bearing temperature trip | Too much grease, bearing worn, belt of dirt on the motor | Remove surplus grease, replace bearing, clean the fins
| E03 | Dry run | Suction valve closed, strainer blocked, air in the line | Open valve, clean strainer, vent, reset at the unit
| E04 | Motor overload | Flow too high, wrong direction, phase missing | Throttle discharge, check rotation, check fuses
| E05 | Motor thermistor | Motor too hot, fan blocked | Let it cool for 30 minutes, clean the fan
| E06 | Seal chamber pressure high | Discharge pressure above the limit, valve closed | Lower the system pressure, open the valve
| E07 | Air in casing | Seal drew air at standstill | Vent, observe changeover procedure
| E08 | Release missing | Contact at terminals 10 and 11 open | Close the plant's release contact
| E09 | Watchdog of the unit | Supply below 19 V | Check the 24 V supply and its fuse
| E10 | Vibration warning | As E01, early stage | Plan a check within 200 hours
| E11 | Bearing temperature warning | As E02, early stage | Regrease (TWX 65) or plan replacement
| E12 | Sensor line broken | Vibration sensor plug loose | Check plug and cable, resistance 250 ohm
| E13 | Temperature sensor | Pt1000 outside 800 to 1600 ohm | Replace the sensor
| E14 | Pressure sensor | Signal below 3.6 mA | Check connector, replace the sensor
| E15 | Leakage at seal | Drip tray contact wet | Inspect the seal, replace if above 5 ml/h
| E16 | Battery low | Battery older than 5 years | Replace battery type CR2477
| E17 | Clock not set | Power off for more than 90 days | Set date and time
| E18 | Event memory full | More than 512 events not read out | Read out the events, the oldest are lost
| E19 | Maintenance due | Interval of the maintenance plan reached | Do the work, reset the counter with level 2
| E20 | Bus timeout | No request for 30 s on the serial line | Check wiring, termination 120 ohm

## Faults without a code
T Other faults | 48,64,68
| Symptom | Cause | Remedy
| No flow, motor runs | Pump not filled, foot valve stuck | Fill and vent, clean the foot valve
| Head too low | Wrong direction, worn wear ring, air | Check rotation, measure clearance, vent
| Motor hums, does not start | Phase missing, impeller jammed | Check fuses, turn the shaft by hand
| Crackling noise like gravel | Cavitation | Raise the suction level, clean strainer, cool the liquid
| Seal leaks soon after replacement | Setting length wrong, oil on EPDM | Repeat the fitting with new parts
| Coupling element torn | Misalignment, too many starts | Align, respect the starts per hour

## Resetting faults
Press the key "ack" for 3 seconds. E03 and E15 can be reset only when the cause has gone. More than three resets of E01 within 24 hours lock the pump for one hour; this lock cannot be bypassed. To read the event memory hold "ack" and "up" together for 5 seconds.

# Spare parts and tools

## Ordering
State type code, serial number, article number and quantity. Wearing parts leave the works within 2 working days, shafts and casings within 15 working days.

## Spare parts {#spares}
T Article numbers of spare parts | 80,35,35,25
| Part | TWX 40 | TWX 65 | Quantity
| Mechanical seal S1, SiC/carbon | TW-33128 | TW-33133 | 1
| Mechanical seal S2, SiC/SiC | TW-33228 | TW-33233 | 1
| Casing gasket | TW-33040 | TW-33065 | 1
| Impeller, nominal diameter | TW-31040 | TW-31065 | 1
| Wear ring | TW-31540 | TW-31565 | 1
| Bearing, drive side | TW-36306 | TW-36308 | 1
| Bearing, pump side | TW-36305 | TW-36307 | 1
| Coupling element | TW-35019 | TW-35024 | 1
| Shaft with key | TW-32040 | TW-32065 | 1
| Sensor set for TWM 2 | TW-90210 | TW-90210 | 1

The service kit for two years of operation contains seal S1, gasket, coupling element and drain plug rings. Its article number is TW-39402 for the TWX 40 and TW-39652 for the TWX 65.

## Special tools
T Special tools | 35,90,50
| Number | Tool | Fits
| TW-70233 | Shaft key for the impeller nut | both
| TW-70240 | Impeller puller, three arms | both
| TW-70251 | Assembly sleeve for the seal | insert 28 or 33 mm
| TW-70262 | Alignment bracket for dial gauges | both

# Decommissioning and disposal

## Taking out of service
Lock out the pump, drain it and rinse it with clean water for at least 15 minutes. When it has pumped glycol, collect the rinsing water and dispose of it as required locally. Send a pump back only with the completed decontamination declaration TW-SD-0015; without it the parcel is refused at the gate.

## Disposal
Separate cast iron, stainless steel, bronze, copper windings, electronics and the battery. The grease of one TWX 65 amounts to about 45 g and is hazardous waste. The seal faces of silicon carbide are inert and go with mineral rubble.

## Returning a pump
Drain, rinse and dry the pump, close the flanges with wooden covers and fasten it on a pallet of at least 800 mm x 600 mm. Put the declaration TW-SD-0015 into a pouch on the outside. Returned pumps are examined within 10 working days; the report names the cause, the condition of both seal faces and a price for the repair. Parts that have been replaced are kept for 90 days and then scrapped.

# Appendix

## Example of a commissioning record
The values below were recorded on a test installation with a TWX 65 and serve only as an example.

T Commissioning record, example | 80,45,45
| Quantity | At the start | After 2 hours
| Suction pressure in bar | 0.9 | 0.8
| Discharge pressure in bar | 4.9 | 4.8
| Current in A | 13.6 | 13.1
| Vibration drive side in mm/s | 1.7 | 1.9
| Bearing temperature in °C | 24 | 57
| Leakage in ml per hour | 4 | 0

## Glossary
NPSH: net positive suction head, the pressure reserve above the vapour pressure at the suction nozzle. Wear ring: replaceable ring that limits the flow back from the discharge to the suction side. Setting length: distance between shaft shoulder and the rear edge of the rotating seal part. Secondary seal: the elastic ring that seals a seal face against shaft or cover. Release: contact of the plant without which the pump does not start. Run-down time: time from switching off until the shaft stands still.

## Conversion of units
T Conversion | 60,60
| From | To
| 1 bar | 14.5 psi
| 1 m3/h | 4.40 US gpm
| 1 kW | 1.34 hp
| 1 Nm | 0.738 lbf ft
| 1 mm/s | 0.039 in/s
"""
