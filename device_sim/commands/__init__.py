"""The commands of the simulator: `./run sim NAME`."""
