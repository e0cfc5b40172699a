"""Learning how many channels each DPConv works on."""
