"""Load generators and whole-hub benches, in processes of their own."""
