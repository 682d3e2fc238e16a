"""What `paper.pdf` says: a field study that was never made, in the markup of `markup.py`.

Two more marks: `E formula` is an equation, set apart and numbered; `> text` a reference.
"""

# ruff: noqa: E501 (a paragraph or question is one line here)

TITLE = "Early Detection of Mechanical Seal Wear from Vibration and Motor Current: A 14-Month Field Study"
AUTHORS = (
    "Working Group on Rotating Equipment, Institute of Applied Hydraulics, Farrowmere (fictitious)"
)

ABSTRACT = (
    "Mechanical seals cause more unplanned stops of small centrifugal pumps than any other part, yet "
    "they are rarely monitored, because leakage is seen only when the seal has already failed. We ask "
    "whether wear can be recognised earlier from two signals that are cheap to obtain: vibration "
    "velocity at the bearing bracket and the envelope of the motor current. Over 14 months we recorded "
    "62 pumps in nine water plants and observed 47 seal failures. A gradient-boosted classifier on 31 "
    "features warned a median of 11.5 days before leakage became visible, with 0.8 false alarms per "
    "pump and year. Vibration alone gave a median of 6.2 days, motor current alone 3.9 days. The gain "
    "of the combination comes from the current's sensitivity to friction at start-up. A simple "
    "threshold on broadband vibration, as it is fitted to most pumps today, warned in only 19 of the "
    "47 cases."
)

BODY = """
# Introduction

Centrifugal pumps of less than 10 kW are found by the dozen in every water plant. They are cheap, they are seldom watched, and most of them stand next to a spare. When one of them fails, the cost lies less in the part than in the water on the floor and in the call-out at night. In the maintenance records of the nine plants of this study, 58 % of all unplanned stops were caused by the mechanical seal, 21 % by bearings, 9 % by the coupling and the rest by motors, valves and controls.

A mechanical seal consists of two lapped faces that slide on a film of liquid about one micrometre thick. Wear is not steady: long quiet times alternate with short events in which the film breaks down, be it through air, crystals or a dry start. After each such event the faces are rougher and friction is higher for hours or days. This is the effect that we try to observe.

Earlier work used acoustic emission [1, 2], temperature close to the faces [3] or the composition of the leakage [4]. These methods work on the test bench but need sensors that cost more than the pump. Vibration has been dismissed for seals, because the energy of the rubbing faces is small against that of the flow [5]. Motor current has been used for bearings [6] and for cavitation [7], but to our knowledge not for seals in the field.

Our contributions are the following. First, a data set of 62 pumps over 14 months with 47 confirmed seal failures, all of them opened and photographed. Second, a comparison of vibration, motor current and their combination under the same protocol. Third, an account of what does not work, including two ideas in which we had put much hope.

# Pumps and plants

The study comprised nine plants: four for drinking water, three for cooling water and two for process water with glycol. All pumps have a single seal, a rated power between 2.2 and 9.2 kW and a fixed speed near 2900 revolutions per minute. Pumps with a frequency converter were left out, because the harmonics of the converter cover the band of interest in the current. Of the 71 pumps equipped at first, nine were withdrawn: five because the plant was rebuilt, three because sensors were stolen and one because of a flood.

T Pumps, running hours and failures by type of plant | 24,16,20,18
| Plant type | Pumps | Running hours | Failures
| Drinking water | 29 | 171 400 | 14
| Cooling water | 22 | 148 900 | 21
| Process, glycol | 11 | 69 300 | 12
| Total | 62 | 389 600 | 47

Cooling water shows the highest number of failures. The water is open to the air, collects dust and is dosed with inhibitors that crystallise at the seal when the pump rests. In six of the 21 cases the faces were stuck together and broke at the next start.

# Measurement

## Sensors
Vibration was measured with a piezoelectric accelerometer of 100 mV per g on the bearing bracket, radially, 30 degrees from the vertical. The signal was sampled at 25.6 kHz for 4 seconds every 10 minutes. Motor current was taken in one phase with a split-core transformer of class 0.5 and sampled at 12.8 kHz over the same interval. In addition every start was recorded for 8 seconds, which turned out to be the most useful decision of the whole study.

The loggers cost 340 euro each, sensors included. They send features and not signals; the raw signal is kept for 30 days and fetched by hand when a seal has failed. In total 1.9 terabytes of raw data were saved.

## Labels
A failure is a leakage above 5 ml per hour, as seen by the plant's staff on their rounds or by a contact in the drip tray. Rounds take place every day in five plants and every third day in four. The time of a failure is therefore uncertain by up to three days, and we count a warning as early only when it was given at least 24 hours before the last round without leakage. Every seal was opened in our laboratory. In four further cases the leakage came from a gasket; they are counted as no failure.

# Method

## Features
From each recording we compute 31 features. Nineteen come from vibration: the root mean square in eight bands between 10 Hz and 10 kHz, crest factor and kurtosis of the two highest bands, and the amplitude at the running speed, its first four harmonics and the vane-passing frequency. Twelve come from the current: the root mean square, the amplitudes of the sidebands around the supply frequency, and five numbers that describe the start. The most important of these is the friction index

E F = (t_90 - t_10) / t_ref * (I_s / I_n)

where t_10 and t_90 are the times at which 10 % and 90 % of the speed are reached, t_ref is the median of t_90 - t_10 over the first 20 starts of the pump, I_s is the mean current between the two and I_n the rated current. A new seal gives values between 4.5 and 6, a rough one up to 9.

Since pumps differ, each feature x is replaced by its distance from the pump's own past,

E z = (x - m_30) / (s_30 + 0.05 * m_30)

with mean m_30 and standard deviation s_30 of the preceding 30 days, the last 48 hours excluded. The second term in the denominator keeps z small where a feature hardly varies. During the first 30 days after installation or after a repair no warning is given.

## Classifier
We use gradient-boosted trees, 300 of them with a depth of at most four and a learning rate of 0.05. The target is a failure within the next 14 days. The output is smoothed by a median over six hours, and a warning is raised when it stays above the threshold for 12 hours. The threshold is chosen on the training plants so that there is at most one false alarm per pump and year. We compared with logistic regression, a random forest and a small convolutional network on spectra; the network needed 40 times the computing time and was no better.

F Score of pump 17 in the 40 days before its failure; the dashed line is the threshold | score | 120

## Evaluation protocol
Plants are never split: the classifier that is tested on a plant was trained on the other eight. This leave-one-plant-out protocol is harsh, but it is the situation of an operator who fits the method to a new plant. Intervals are 95 % bootstrap intervals over pumps with 2000 draws.

# Results

## Main comparison
Table 2 compares the variants at the threshold described above. The combination warns in 41 of the 47 cases, vibration alone in 33 and current alone in 26. The plain threshold on broadband vibration of 7.1 mm/s, as in common monitoring units, warns in 19 cases and then mostly when leakage is hours away.

T Warnings at one false alarm per pump and year at most | 27,17,19,17
| Variant | Warned of 47 | Median lead in days | False alarms
| Broadband threshold | 19 | 0.6 | 1.4
| Vibration, 19 features | 33 | 6.2 | 0.9
| Current, 12 features | 26 | 3.9 | 1.0
| Both, 31 features | 41 | 11.5 | 0.8
| Both, without starts | 34 | 6.9 | 0.9

The last row shows what the recordings of starts are worth: without them the lead falls from 11.5 to 6.9 days, and seven failures are missed in addition. The interval for the lead of the combination is 8.7 to 14.1 days.

F Distribution of the lead time in days for vibration, current and both | bars | 120

## Which features matter
Ranked by the loss of precision when a feature is shuffled, the friction index comes first, before the vibration between 5 and 10 kHz and its kurtosis. The amplitude at the running speed, on which many handbooks lay stress, comes only in the 24th place. It rises when the impeller is out of balance, and that has nothing to do with the seal.

## Missed failures
Six failures were missed. In three of them a pump had run dry after a wrong valve operation and the seal was destroyed within one minute; no method can warn of that. In two the pump stood still for more than 50 days before it failed, so that no recordings existed. The last one, pump 44, remains unexplained: the faces showed a fine radial crack, and all features had been inconspicuous.

## False alarms
We looked at all 52 false alarms. Nineteen followed a repair of the pipework by which the load of the flanges had changed, 14 were caused by cavitation during low level in the suction tank, eight by a loose sensor, and eleven stayed without explanation. In five of these eleven cases the seal leaked later, between 15 and 33 days after the warning, and thus outside our window of 14 days. Counted as right, they would lower the rate to 0.7 per pump and year.

# What did not work

Two attempts failed and may be spared to others. The first was the phase between current and vibration, which promised to separate friction torque from load. The clock of the logger drifts by up to 3 ms per hour between the two converters, which is more than the phase to be measured, and correcting it by the supply frequency was not accurate enough. The second was to use temperature at the gland. It follows the temperature of the liquid with a delay of 12 to 25 minutes and shows friction only when the seal is already about to fail; it added 0.3 days of lead, which lies within the interval.

# Cost and benefit

For an operator the question is whether it pays. A planned replacement of a seal takes 2.5 hours and costs 410 euro in our plants, parts included. An unplanned one costs 1,260 euro on average, since work at night, cleaning and the loss of liquid are added. With 0.65 failures per pump and year, 41 of 47 detected, and 0.8 false alarms that cost 90 euro for an inspection each, the saving is about 410 euro per pump and year, against 340 euro once for the logger. The method therefore pays within the first year, though not for pumps that run less than 1500 hours a year.

F Expected saving per pump and year against running hours; break-even at 1500 hours | line | 120

# Limits

All pumps had fixed speed. How to remove the harmonics of a converter is open. All seals were single seals with faces of silicon carbide against carbon; the harder pair of silicon carbide against silicon carbide was present in two pumps only, neither of which failed. The number of failures, 47, is large for a field study and small for a classifier. Rounds every third day limit the accuracy of the lead time. Finally, the warnings were visible to the staff in the last four months; they may have looked more closely at pumps with a warning, which would shorten the lead.

# Related work

Acoustic emission sees the contact of the faces directly. On a test bench with 12 seals a lead of 200 hours was reported [1], at a cost of more than 2,000 euro per pump [2]. Temperature close to the faces needs a bored seal ring [3] and is common only in large pumps of refineries. Leakage composition [4] is used for gas seals. For bearings, vibration in the envelope spectrum is standard [8], and the same sensors can serve both ends, as our results suggest. The idea of standardising each feature by the machine's own past goes back to work on wind turbines [9].

# Conclusion

Wear of mechanical seals in small pumps can be recognised about eleven days in advance with two cheap sensors, provided that starts are recorded and each pump is compared with itself. The plain vibration threshold in use today is no substitute. We publish the features of all 62 pumps, without the names of the plants, and the code of the evaluation. Next we shall study pumps with frequency converters, for which 24 loggers were installed in January.

# References

> [1] Oddveig and Marn, Acoustic emission of sliding seal faces, Annals of Sealing Practice 12 (2016) 44-61.
> [2] Quillby, What monitoring may cost, Farrowmere Pump Days (2018) 201-209.
> [3] Marn, Bored seal rings with thermocouples, Annals of Sealing Practice 9 (2013) 112-120.
> [4] Tessenholm and Ivarra, Leakage analysis of gas seals, Bulletin of Plant Measurement 31 (2019) 5-18.
> [5] Brackenhall, Why vibration does not see the seal, Bulletin of Plant Measurement 22 (2010) 77-83.
> [6] Ivarra, Bearings heard through the motor current, Letters on Drives 4 (2015) 310-322.
> [7] Dunmarrow and Quillby, Cavitation and current sidebands, Letters on Drives 7 (2018) 15-29.
> [8] Hexley, Envelope spectra in practice, Handbook of Plant Measurement, 3rd edition (2011) 401-455.
> [9] Oddveig, Machines compared with themselves, Bulletin of Plant Measurement 29 (2017) 150-166.
"""
