"""Chapters 1 to 6 of the pump manual, in the markup that `manual.py` reads."""

# ruff: noqa: E501 (a paragraph or question is one line here)

CHAPTERS = """
# About this manual

## Scope {#scope}
This manual describes transport, installation, commissioning, operation and maintenance of the close-coupled centrifugal pumps TWX 40 and TWX 65 with the monitoring unit TWM 2. It applies from serial number 2207-0418 on. Pumps with a lower serial number have a different bearing bracket; for these use manual TW-OM-1903. The larger TWX 80 is not covered here and has a manual of its own, TW-OM-2211.

Keep the manual within reach of the pump. The operator must hand it over together with the pump when the pump is sold or moved. Values in this manual are given for the TWX 40 first and for the TWX 65 second; never carry a value over from one model to the other.

## Signal words
The following signal words are used. DANGER marks a hazard that leads to death or serious injury. WARNING marks a hazard that can lead to serious injury. CAUTION marks a hazard that can lead to minor injury. NOTICE marks possible damage to property.

## Applicable documents
T Documents that apply together with this manual | 30,90,50
| Number | Title | Supplied as
| TW-OM-2207 | Operating manual TWX 40 / TWX 65 (this manual) | print and file
| TW-MU-0312 | Monitoring unit TWM 2, register list | file
| TW-SP-2207 | Spare parts drawing TWX series | file
| TW-CR-0071 | Commissioning record, blank form | print
| TW-SD-0015 | Decontamination declaration for returned goods | print

## Warranty and records
The warranty period is 24 months from delivery or 18 months from commissioning, whichever ends first. It lapses when the commissioning record (TW-CR-0071) has not been returned within 30 days after the first start, or when seals, bearings or impellers of other origin have been fitted. The operator keeps the maintenance log for at least five years.

# Safety

## Intended use {#intended}
The pumps move clean or slightly contaminated water and water-glycol mixtures of up to 40 % glycol by volume. The content of solids must not exceed 25 ppm, the grain size must not exceed 0.2 mm. The pH value must lie between 6.5 and 9.0 and the chloride content below 200 mg/l.

! WARNING: The pumps are not approved for potentially explosive atmospheres. Do not install them in a classified area and do not use them for petrol, solvents or any other liquid with a flash point below 61 °C.

## Foreseeable misuse
- Running dry, even for a rotation check, destroys the mechanical seal within 20 seconds.
- Running against a closed discharge valve for longer than 90 seconds heats the liquid in the casing above the limit.
- Using the pump as a step or hanging loads from the junction box.
- Throttling on the suction side to adjust the flow.
- Operating a TWX 40 with the impeller of a TWX 65 cut down to size.

## Qualification of personnel
T Who may do what | 55,60,55
| Activity | Qualification | Evidence
| Transport, setting down | Instructed person with forklift licence | Licence
| Installation, alignment | Fitter, at least 2 years of experience | Employer's record
| Electrical connection | Electrician | Certificate
| Seal and bearing replacement | Fitter with training course TW-T2 | Course certificate, valid for 4 years
| Changing parameters of level 3 | Service of the manufacturer | Access code

## Lockout before any work {#lockout}
1. Stop the pump and switch off the main isolator. Lock it with a padlock and hang up the red tag.
2. Wait at least 5 minutes until the capacitors of the frequency converter have discharged.
3. Check at terminals U1, V1 and W1 that there is no voltage.
4. Close the suction and discharge valves, then open the drain plug slowly until the casing is without pressure.
5. Let the casing cool down below 50 °C before opening it.

! DANGER: Voltage remains on the converter after switching off. Touching live terminals kills. Measure before you touch.

## Protective equipment
T Protective equipment by task | 55,115
| Task | Equipment
| Operation rounds | Safety shoes, hearing protection above 80 dB(A)
| Opening the casing | Goggles, nitrile gloves, apron
| Fitting heated bearings | Heat-resistant gloves to 250 °C
| Handling glycol | Nitrile gloves, goggles, eye-wash bottle within 10 m

## Residual risks
Even when the pump is used as intended, some risks remain. The casing and the discharge line reach the temperature of the liquid, which is up to 90 °C on the TWX 40 and 110 °C on the TWX 65; insulate surfaces that can be touched when they become hotter than 60 °C, but never insulate the motor or the bearing bracket. When the seal fails, liquid sprays sideways through the slots of the bracket. The motor starts by itself after a power failure when parameter P11 has been changed to 1; a sign must then be fitted at the pump.

The magnets of the coupling option MK can disturb pacemakers at a distance of less than 0.3 m. The pump has no option MK unless the type code ends with these letters.

## In an emergency
Switch off the main isolator; the pump has no emergency stop of its own. Close the suction valve only after the shaft has come to rest. Glycol on the skin is rinsed off with water for 10 minutes. Spilled glycol is bound with dry binder and must not reach the drains. Fires of the motor are put out with carbon dioxide from a distance of at least 1 m.

After an emergency the pump may be started again only when the cause has been found and written into the maintenance log, and when the checks of chapter 7 have been repeated.

# Product description

## Type code
The type code on the nameplate reads, for example, TWX 65-210 S1 F2. The first number is the nominal diameter of the discharge nozzle in millimetres, the second the nominal impeller diameter. S1 stands for a single mechanical seal of silicon carbide against carbon, S2 for silicon carbide against silicon carbide. F1 means feet of cast iron, F2 a welded base frame with drip tray.

## Nameplate
The nameplate is riveted to the bearing bracket on the side facing the terminal box. It shows type code, serial number, year, rated flow and head, speed, shaft power and the article number of the seal. State the serial number in every enquiry. If the nameplate cannot be read, the serial number is also punched into the discharge flange.

## Design
### Hydraulics
The volute casing has a radial discharge nozzle and an axial suction nozzle. The impeller is closed, has six vanes on the TWX 40 and seven vanes on the TWX 65, and is balanced to grade G 2.5. Back vanes relieve the axial thrust; there is no balancing hole.

### Shaft seal
Both models have a single mechanical seal in a conical seal chamber. The seal diameter is 28 mm on the TWX 40 and 33 mm on the TWX 65. The chamber is flushed by the pumped liquid; an external flushing line is neither needed nor permitted.

### Bearings
The shaft runs in two grease-lubricated deep groove ball bearings. The TWX 40 has type 6306 on the drive side and 6305 on the pump side; the TWX 65 has 6308 on the drive side and 6307 on the pump side. The TWX 65 has regreasing nipples, the bearings of the TWX 40 are sealed for life and are replaced instead of regreased.

F Cross-section of the pump: 1 volute casing, 2 impeller, 3 mechanical seal, 4 bearing bracket, 5 shaft, 6 coupling guard | section | 150

## Monitoring unit TWM 2 {#twm}
The monitoring unit sits on the bearing bracket and measures vibration velocity, bearing temperature and the pressure in the seal chamber. It reports by a relay contact and by a serial line. The battery keeps the clock running for about 90 days without mains supply. The unit stores the last 512 events with date and time; when the memory is full the oldest event is overwritten.

## Options
T Options of both models | 28,92,25,25
| Option | Meaning | TWX 40 | TWX 65
| S2 | Seal faces of SiC against SiC, for abrasive liquids | yes | yes
| F2 | Welded base frame with drip tray, 18 litres | yes | yes
| HB | Heated bearing bracket, 60 W, for outdoor use | no | yes
| PT | Second temperature sensor at the pump-side bearing | no | yes
| MK | Magnetic coupling, without shaft seal | no | on request
| LT | Low-temperature grease to -30 °C | yes | yes

Option HB switches on at 5 °C and off at 10 °C. It has a supply of its own with 230 V, which stays live when the motor is locked out; switch it off at the separate isolator F7.

## Scope of delivery
Each pump is delivered with coupling guard, drain plug with three spare sealing rings, the monitoring unit TWM 2 with a battery already fitted, the blue card with the code for level 2, and this manual. Anchor bolts, cable glands, counter flanges and the strainer for the first hours are not included and must be ordered separately.

# Technical data {#data}

## Operating limits
T Operating limits of both models | 75,35,35,30
| Quantity | TWX 40 | TWX 65 | Unit
| Rated flow | 18 | 46 | m3/h
| Rated head | 32 | 41 | m
| Rated speed | 2900 | 2950 | 1/min
| Maximum working pressure | 10 | 16 | bar
| Maximum suction pressure | 4 | 6 | bar
| Liquid temperature | -10 to +90 | -10 to +110 | °C
| Ambient temperature | 0 to 40 | 0 to 40 | °C
| Minimum continuous flow | 2.2 | 5.5 | m3/h
| NPSH required at rated flow | 2.4 | 3.1 | m
| Maximum starts per hour | 20 | 12 | 1/h
| Mass without motor | 38 | 61 | kg
| Mass with motor | 64 | 118 | kg

## Motor data
T Motor data at 50 Hz, 400 V | 75,35,35,30
| Quantity | TWX 40 | TWX 65 | Unit
| Rated power | 3.0 | 7.5 | kW
| Rated current | 6.1 | 14.4 | A
| Starting current ratio | 7.2 | 7.9 | -
| Power factor | 0.84 | 0.87 | -
| Efficiency class | IE3 | IE4 | -
| Insulation class | F | F | -
| Degree of protection | IP55 | IP55 | -
| Motor protection switch setting | 6.4 | 15.0 | A

The motor windings carry three PTC thermistors that trip at 145 °C. The thermistors must be wired to the converter or to a trip device; without them the warranty for the motor is void. At installation heights above 1000 m the motor power falls by 1 % for each further 100 m.

## Noise
T Sound pressure level at 1 m, measured at rated flow | 75,35,35,30
| Condition | TWX 40 | TWX 65 | Unit
| 50 Hz, on foundation | 66 | 72 | dB(A)
| 50 Hz, on base frame F2 | 69 | 75 | dB(A)
| Background of the test bench | 48 | 48 | dB(A)

## Permissible nozzle loads {#nozzle}
The forces and moments in the table apply at the flange face and at 20 °C. At liquid temperatures above 80 °C multiply them by 0.85.

T Permissible nozzle loads | 60,30,30,30,25
| Nozzle | Fx in N | Fy in N | Fz in N | M in Nm
| TWX 40 suction DN 65 | 620 | 560 | 680 | 240
| TWX 40 discharge DN 40 | 410 | 380 | 480 | 170
| TWX 65 suction DN 80 | 890 | 810 | 980 | 410
| TWX 65 discharge DN 65 | 640 | 590 | 720 | 290

## Materials
T Materials of the main parts | 60,60,55
| Part | TWX 40 | TWX 65
| Volute casing | Cast iron EN-GJL-250 | Ductile iron EN-GJS-400-15
| Impeller | Bronze CuSn10 | Stainless steel 1.4408
| Shaft | Stainless steel 1.4021 | Stainless steel 1.4462
| Wear ring | Bronze CuSn7ZnPb | Stainless steel 1.4571
| Casing gasket | Aramid fibre 0.5 mm | Graphite 1.0 mm
| Secondary seals | EPDM | FKM

# Transport and storage

## Transport
The pump is delivered on a pallet. Lift the complete unit only with two slings around the feet and the motor flange; the eye bolt of the motor carries the motor alone. The centre of gravity lies 310 mm behind the suction flange on the TWX 40 and 395 mm on the TWX 65. Remove the transport lock, a red bar between coupling guard and base frame, only after the pump has been bolted to its foundation.

## Storage {#storage}
Store the pump in a dry room at 5 to 35 °C and a relative humidity below 65 %. Turn the shaft by hand by one and a quarter turns every 4 weeks so that the bearings do not rest in the same place. Bright surfaces are preserved at the works for 6 months; after that renew the preservation with an anticorrosion oil free of silicone. Seals of EPDM must not come into contact with mineral oil. The shelf life of a mechanical seal in its unopened bag is 5 years.

Pumps that were stored for more than 24 months must be fitted with new casing gaskets and, on the TWX 65, with fresh grease before they are started.

# Installation

## Foundation
The concrete foundation must weigh at least three times the mass of the pump with motor and must have set for at least 7 days. The surface may deviate from level by no more than 0.5 mm per metre. Use four anchor bolts M12 x 160 for the TWX 40 and four anchor bolts M16 x 200 for the TWX 65. Fill the base frame with non-shrinking grout to its upper edge and let the grout set for 48 hours before tightening the bolts.

## Alignment {#alignment}
The unit leaves the works aligned, but transport and bolting down distort it. Check the alignment with a dial gauge after bolting down, after connecting the pipes and again at operating temperature.

T Permissible misalignment of the coupling | 75,35,35,30
| Quantity | TWX 40 | TWX 65 | Unit
| Radial offset | 0.08 | 0.10 | mm
| Angular offset over 100 mm | 0.06 | 0.08 | mm
| Gap between coupling halves | 3.0 | 4.0 | mm

## Piping
Support the pipes so that no force acts on the flanges beyond the values of section {ref:nozzle}. The suction line must rise steadily towards the pump with a slope of at least 2 % and needs a straight run of five pipe diameters in front of the suction flange. Reducers on the suction side are eccentric with the flat side up. Fit a strainer with a mesh of 1.0 mm during the first 100 hours of operation and remove it afterwards. The flow velocity should stay below 2.0 m/s in the suction line and below 3.5 m/s in the discharge line.

## Electrical connection {#electrical}
! WARNING: Only electricians may connect the motor. Follow the lockout procedure of section {ref:lockout}.

T Cables and fuses | 75,35,35,30
| Item | TWX 40 | TWX 65 | Unit
| Supply cable, copper | 4 x 1.5 | 4 x 4 | mm2
| Back-up fuse, gG | 16 | 32 | A
| Largest cable length to converter | 50 | 30 | m
| Cable gland | M20 | M25 | -
| Tightening torque of terminals | 1.8 | 3.2 | Nm

T Terminals of the monitoring unit TWM 2 | 30,80,60
| Terminal | Signal | Remark
| 1, 2 | Supply 24 V DC | 110 mA at most
| 3, 4 | Relay "fault" | opens on fault, 250 V, 2 A
| 5, 6 | Analogue output 4 to 20 mA | vibration, 0 to 25 mm/s
| 7, 8 | Serial line A, B | 19200 baud, even parity
| 9 | Shield | connect at one end only
| 10, 11 | Input "release" | bridge fitted at the works

## Sensors
The vibration sensor is screwed into the bearing bracket with 2.5 Nm and secured with a drop of medium-strength thread lock. The temperature sensor is a Pt1000 and is pushed 42 mm deep into the bore next to the drive-side bearing, with heat-conducting paste. The pressure sensor of the seal chamber must not be used as a step or handle; its measuring range is 0 to 25 bar.

## Cable routing
Lay the cables of the sensors at least 200 mm away from the motor cable and cross it at a right angle. The screen of the sensor cables is earthed at the TWM 2, the screen of the motor cable at both ends with clamps of full circumference. The sensor cables have a length of 3 m and may be extended to 10 m; the cable of the vibration sensor must not be extended, because its resistance is part of the line monitoring.

## Handing over
The fitter hands the pump over with the commissioning record and shows the operator how to lock out, vent, read the event memory and reset a fault. The training takes about 45 minutes. Spare keys for the isolator stay with the operator; the fitter keeps none.
"""
