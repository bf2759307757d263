"""What is measured of policies, contexts and runs."""
