"""What the platform does, without Qt. Stands on the broker's interface; never imports widgets or device_sim."""
