"""French cities: where they lie, how warm each month is there, and how many of our homes are in them."""

from __future__ import annotations

import dataclasses

import numpy as np

# The mean temperature of each month and the position, in decimal degrees, as in the table `temperature.txt` that
# F. Bertrand (University of Strasbourg) publishes for his course of 2020; its positions are degrees and minutes there.
# School zone: which of A, B, C the city's schools belong to. Weight: about the inhabitants of its urban area, millions
# (general knowledge).


@dataclasses.dataclass(frozen=True, slots=True)
class City:
    """A city's climate and place."""

    name: str
    postcode: str
    latitude: float
    longitude: float
    school_zone: int
    weight: float
    monthly_c: tuple[float, ...]


CITIES = (
    City(
        "Bordeaux", "33000", 44.83, -0.57, 0, 1.0, (5.6, 6.6, 10.3, 12.8, 15.8, 19.3, 20.9, 21.0, 18.6, 13.8, 9.1, 6.2)
    ),
    City("Brest", "29200", 48.40, -4.48, 1, 0.3, (6.1, 5.8, 7.8, 9.2, 11.6, 14.4, 15.6, 16.0, 14.7, 12.0, 9.0, 7.0)),
    City(
        "Clermont-Ferrand",
        "63000",
        45.78,
        3.08,
        0,
        0.5,
        (2.6, 3.7, 7.5, 10.3, 13.8, 17.3, 19.4, 19.1, 16.2, 11.2, 6.6, 3.6),
    ),
    City("Grenoble", "38000", 45.18, 5.72, 0, 0.7, (1.5, 3.2, 7.7, 10.6, 14.5, 17.8, 20.1, 19.5, 16.7, 11.4, 6.5, 2.3)),
    City("Lille", "59000", 50.63, 3.07, 1, 1.5, (2.4, 2.9, 6.0, 8.9, 12.4, 15.3, 17.1, 17.1, 14.7, 10.4, 6.1, 3.5)),
    City("Lyon", "69001", 45.75, 4.85, 0, 2.2, (2.1, 3.3, 7.7, 10.9, 14.9, 18.5, 20.7, 20.1, 16.9, 11.4, 6.7, 3.1)),
    City(
        "Marseille", "13001", 43.30, 5.40, 1, 1.9, (5.5, 6.6, 10.0, 13.0, 16.8, 20.8, 23.3, 22.8, 19.9, 15.0, 10.2, 6.9)
    ),
    City(
        "Montpellier",
        "34000",
        43.60,
        3.88,
        2,
        0.8,
        (5.6, 6.7, 9.9, 12.8, 16.2, 20.1, 22.7, 22.3, 19.3, 14.6, 10.0, 6.5),
    ),
    City("Nantes", "44000", 47.22, -1.55, 1, 1.0, (5.0, 5.3, 8.4, 10.8, 13.9, 17.2, 18.8, 18.6, 16.4, 12.2, 8.2, 5.5)),
    City("Nice", "06000", 43.70, 7.25, 1, 1.0, (7.5, 8.5, 10.8, 13.3, 16.7, 20.1, 22.7, 22.5, 20.3, 16.0, 11.5, 8.2)),
    City("Paris", "75011", 48.87, 2.33, 2, 6.0, (3.4, 4.1, 7.6, 10.7, 14.3, 17.5, 19.1, 18.7, 16.0, 11.4, 7.1, 4.3)),
    City("Rennes", "35000", 48.08, -1.68, 1, 0.7, (4.8, 5.3, 7.9, 10.1, 13.1, 16.2, 17.9, 17.8, 15.7, 11.6, 7.8, 5.4)),
    City("Strasbourg", "67000", 48.58, 7.75, 1, 0.8, (0.4, 1.5, 5.6, 9.8, 14.0, 17.2, 19.0, 18.3, 15.1, 9.5, 4.9, 1.3)),
    City("Toulouse", "31000", 43.60, 1.43, 2, 1.4, (4.7, 5.6, 9.2, 11.6, 14.9, 18.7, 20.9, 20.9, 18.3, 13.3, 8.6, 5.5)),
    City("Vichy", "03200", 46.13, 3.43, 0, 0.2, (2.4, 3.4, 7.1, 9.9, 13.6, 17.1, 19.3, 18.8, 16.0, 11.0, 6.6, 3.4)),
)
LATITUDES = np.array([city.latitude for city in CITIES])
LONGITUDES = np.array([city.longitude for city in CITIES])
SCHOOL_ZONES = np.array([city.school_zone for city in CITIES])
WEIGHTS = np.array([city.weight for city in CITIES])
MONTHLY_C = np.array([city.monthly_c for city in CITIES])
