"""The keys of the installation: where master keys come from, how a start finds the right one, how keys are replaced."""
