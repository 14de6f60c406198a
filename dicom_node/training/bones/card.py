"""The model card of the bone network, but for its figures."""

CARD = """# Model card: the OsteoNode bone network

## What it is
A 3D U-Net that tells, on a grid of 3 mm, vertebral bodies (core and shell), posterior elements, sacrum, hip bones and
femurs (right and left), ribs and the spinal canal apart. The native-grid surface is found afterwards by geometry.

## Made for
Adult CT of trunk and hips, any contrast, any kernel, slices up to 5 mm. Research use only.

## What it has seen
- two real labelled scans (an adult trunk from T11 to the hips with a nail in the left femur; an enhanced adult chest),
  or one of them where the plan below leaves the other out. Their labels are automatic (TotalSegmentator), not expert;
- scenes made from a statistical shape model of 26 people's pelvis and femurs, posed and rendered;
- both with strong changes of shape, pose and appearance.

## What it has not seen
Children, MR, dental or cone-beam CT, tumours, cement, most implants, arms in view, more than two real spines. It has no
right to be trusted on a scanner or population because it worked on another one.

## How good it is
{figures}

Figures of "unseen" scans are on scans that were never learned from; the lumbar crop has three vertebrae. Figures of
"seen" scans say that learning worked, nothing else.

## How it was trained
{plan}
"""
