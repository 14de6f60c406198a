"""The model card of the femur networks."""

CARD = """# Femur segmentation, {title}

## What it is

{what} after [Saillard2024], trained by `osteonode train {name}`. It labels the right and the left femur in CT.

## Intended use

CT of the hip or of the pelvis with the proximal femurs from head to shaft, of people like those it was trained on.
It was trained on the data of one site: judge it on cases that site has not trained on, as docs/evaluation.md says,
before its results are used.

## What it learned from

The data of the checksum below; the labels are as good as the people or programs that drew them.

## Figures at the end of the training

On the validation cases, on the network's own grid. Dice and HD95 are means over femurs, `least_dice` is the worst.
The validation cases served to watch the training; an independent test needs other patients.

{{figures}}

## How it was trained

{{plan}}

## Limits

- Femurs are registered to one reference femur; where that fails no femur is reported.
- A femur that is longer than the longest one it was trained on is cut at the end.
- Metal, children, deformity and fractures are only known to it where the training showed them.
- The split into halves and the registration are estimates: a person must look at the mask.
"""
