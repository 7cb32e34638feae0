"""The probabilistic ensemble of PETS (Chua et al. 2018): networks, training, prediction.

Shape letters: `B` batch, `E` ensemble members, `O` obs, `A` action, `I` = O + A inputs, `N` transitions.
"""
