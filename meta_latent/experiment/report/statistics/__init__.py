"""The numbers of a report: what is known of each arm, of each against another, and of sweeps."""
