# SPDX-License-Identifier: GPL-3.0-or-later
# SPDX-FileCopyrightText: 2026 The multiwan.linux contributors
"""Notifications of a Linux 6.18 kernel (little-endian), as they were received: device wan1 has index 101."""

from __future__ import annotations

import zlib
from base64 import b64decode

PACKED = {
    "wan1 has carrier": (
        "eNrtU7lKA1EUPW9mXja3UQKCgguKCxbGBYsYt0Q/wE6sFByxighG2ykt/Ih8g5W/IPgBFraKWFiIhVbx3jsXE"
        "oeoqNiIB2bOu9zlnXnvzJUFfDTCIKB3yTcSpeHieLs8xesU2nDnApY6EmDulBqLEqK8h2vLPI1ViWdQqzH3ar"
        "5PeUG5H47wmNaNy/4p5JWXlJeV5/FcSxIXtL6ocwZkjsUgjMRDOndS45xwQlQxr6nuUeEMZYsXty9n57x2aDY"
        "DuEQ3/gp2kPz1PVoxQWfqyNpHF3nH4Cg43IvuyGJXahIo7x9UgkqAnNuDU6o/gYk58O2DBv4pfLpy9nAcPL/q"
        "ZEin7BRmSS974PGmBanNqOdJv43dyD6P62TXVDvq88N8GuG6AYcbTv0/a+zZun9fq2mi27yTb3Y+4cPch3mBF"
        "xF/K+uP180aFyP4x1dQII9/92/LNum05ErGMNo/7fewGHpYCV8BBLpDZA=="
    ),
    "wan1 has no carrier": (
        "eNrVU7tKA1EQPfsym/iKEhAUfKD4wML4wCLGV9TOxk5SKRixighG2y0tLPMB+QSx8hcEP8DCVhELC7HQKs7Mj"
        "mZZNkYRQQd2z92dxz33zNxrB0giaAYK9Lb0ZxwWjreLk7x20Yp7C3Aog4CwQ2IcrMD327hxGKewKt/TqFYZe9"
        "Tfqziv2AdTcFTjxmR/FxnFRcUlxTm8VGOEWY3PaZ1+qeNgQL8HhZ+LCcpiTIu/SVgxrinvEcEEReUu717PL3h"
        "tUm024Apdkuer4tuZYh7/y3YQk7MYeobf4N+CcdLUVyyJTpodA0eFwz2/Jw52JaYJxf2DUqFUQNrqxinFn3yo"
        "W9M6+AT1/6klqeU8w2Hj+hUzQTxlJy9FfHkGnm6b4eb9nGc9G08jz3mYJ09Npb1W38vE4W0YMoubZu2eBXO2H"
        "upzNSJ4G3X8Ufp4j7Of+sVsH/iszD8cN2NYGNb1+10oh2LMBpqHe7j+x+6G2UCj8jd5Z2nGY1/oaZSlIjIdmk"
        "q2IbQ13NvGgmdj2XsDfodHBQ=="
    ),
    "address added": ("eNoLYGBgEAHiv00M2XsFmRiYJBoYUoF8DgZGBlYg4GBgAtOcDMwM5Yl5hgxgOQ6GBrA+Nob/UODzjJsBhAHboxD4"),
    "address with a peer": (
        "eNoLYGBgEAHiv00M2fsFmRiYFBoYUoF8DgZGBm5Gxn8cDEwgmpGTgZmhPDHPkAEsx8HQANbHxvAfCnyfcTOAMAAMmxH1"
    ),
    "address deleted": (
        "eNoLYGBgEAXiv00M2YcEmRiYFBoYUoF8DgZGBm5Gxn8cDEwgmpGTgZmhPDHPkAEsx8HQAKRFGNgY/kOB7zNuBhAGAA2zEfk="
    ),
    "gateway reachable": "eNrzYWBgkGGAgMOCTAxMQDoViIE0IwcDIwMrKysjFwNEnIGLgYGDgQWsVoSBmQEZgOQBdhwB/w==",
    "gateway failed": "eNpzYGBgkGGAgCOCTAxMQDoViBUYGBg5GBgZWFlZgTQLWF6EgZkBGTACMQBfigH5",
    "gateway gone": "eNpzYGBgkGVAACYgTgViBQYGRg4GRgZWVlYgzQKWE2FgZkAHADQrASI=",
    "default of others": "eNodx7ENABAQQNFPnOjQGcY4VLYwnaVcXFQvrwMN4t2sUz3ergVnkMjoNzK+goi4RGDaH/UlBkY=",
    "default of others deleted": "eNqzYWBgkATiv00M2acEmRiYgOx/AgyMQIqBg4Gf4R+YZmNIAdOsDKysrIwcDCwMqUA+APR/BkM=",
    "network of others": "eNqzYWBgkGBgYPvbxJB9XpCJgYmDgeHfLgZGoDADBwM/wz8wzcggAqZZGVhZWRk5GFgYUoF8AAsUBqo=",
    "own route": ("eNoLYGBgkGBgYPvbxJB9QZCJgQnI/+PLwAikGDgY+BleM4NoNrCACgMngwADA1MqWI6VgZWVlRHIZ0DiMwEAg90G8A=="),
    "own route deleted": ("eNoLYGBgkATiv00M2RcFmRiYgOw/vgyMQIqBg4Gf4TUziGYDC6gwcDIIMDAwpYLlWBlYWVkZgXwGJD4TAIK3Buw="),
    "own rule": ("eNrzYWBgUADiv00M2ZcEmRiYgOw/DAyMQIqBg4Gf4SUziOZj+A8ErAyiDL5gcTaoOBdYJQeDAAPDfwYGAO64C9s="),
    "own rule deleted": ("eNrzYWBgUATiv00M2VcFmRiYgOw/DAyMQIqBg4Gf4SUziOZj+A8ErAyiDL5gcTaoOBdYJQeDAAPDfwYGAO/AC98="),
    "rule of others": "eNqzYWBgUADiv00M2TcFmRiYgOx/DAyMQIqBg4EfxAbSfAz/gYCVQZQBIs7G0MLMwAAAOZ8KCg==",
    "wan1 left a bridge": (
        "eNqLYGBgEGRAAHYGRoZUIO0swAjmczIwM5Qn5hmC2BwMXAxMYJqF4Q4rAwMrgwADG5DPBdTjdPLZz007QHKsDGlAMQADNAic"
    ),
    "wan1 renamed": (
        "eNq9U7tKA1EQPXdvNtnEV5SAoOADxQcKBhWLGF9Re+3EyiIrqQxKYr2lhR+Rb7DyFwQ/wMI6BAsrC63izN0Ji"
        "cvGDRIcyJ67e2fmnjP35MUG0ugMBZeelnxMQaNcKbk3tHYwhIYGbKqwwDhqcmwcGnQQw6vNuI4j876BZpNxUv"
        "anBHcEp00fB0uSt2zOd5AT3BPcF9zGZzNBmJf8gvSZET6z8j5Ha8Y16Z8lFUDcsGI8Ft6LolGh8FT/enjktUW"
        "9OYBnjJMiP7RgUclcFH6NiO1/jyISRosWDUH+/eA7iBWaqWXWaYwhSV1v3UrJvxMblyYnjqvyddWtusjqCdxT"
        "/l3gdBX49XOeabryhg6/r5qVIp7+SRniyx44qQ/AOfdrPkQbu5F9HuTJrqmNtPt7uSS8U2Vmfma1/2edNRdvv"
        "XmoxVt12Q+bj/e+FX2/YnDWyvyDeZtKY+FnKlZVaAtEHNG1/q/RL0/EInS0+PbKO08eT3TZ0xG1mZBKm1zJMY"
        "/hHrTsejEceN8xEERu"
    ),
    "wan1 deleted": (
        "eNpbw8TAIMiADBgZUoEkkwADw38g4GRgZihPzDMEyXAw8DK8YGZgYGUQYABqA9IQnawMzgwQeRaGO6wg2ojBB"
        "cw3BpoBoqWh8nJQ2hZKy4PN4WDQgKrTBNvPwWAFpe2htAOUtmb48Z8dSNtA1TtBzVGAukcRylcGskG0PtR8A6"
        "AvGBjYwK4C0a5Qd6uDaS6g2U4nn/3ctAPEZgL7G2T+GQZxeKgwM6ACLkYGvICANN1BCgM7ij/Q3U8N9/IwaAP"
        "DlAnMFmAQYuAEmlqWWpIBiRNWsDgnMPTz8vMLQGwWBikGFQY+guayMNg1sDA4NgAAuPgn3g=="
    ),
}
CAPTURED = {name: zlib.decompress(b64decode(packed)) for name, packed in PACKED.items()}
