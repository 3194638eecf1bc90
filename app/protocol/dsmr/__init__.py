"""DSMR P1, the customer port of Dutch, Belgian, Austrian and Luxembourgish meters, and German push telegrams: pure."""
