# SPDX-License-Identifier: Apache-2.0
"""Energy meters on sysfs trees as the kernel documents them."""

import os
import time

import pytest

from edge_vlm.meters import open_energy_meter
from edge_vlm.meters.ina import InaMeter
from edge_vlm.meters.pi5 import Pi5Meter, sum_rails_w
from edge_vlm.meters.rapl import RaplMeter
from edge_vlm.meters.sensor import PowerIntegrator, SensorUnavailable, integrate_j


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def rapl_zone(root, zone, name, energy_uj, range_uj=262_143_328_850):
    folder = root / "sys/class/powercap" / zone
    write(folder / "name", name)
    write(folder / "energy_uj", energy_uj)
    if range_uj is not None:
        write(folder / "max_energy_range_uj", range_uj)
    return folder / "energy_uj"


def jetson(root, rails, chip="ina3221", number=3):
    folder = root / f"sys/class/hwmon/hwmon{number}"
    write(folder / "name", chip)
    for channel, (rail, millivolts, milliamperes) in enumerate(rails, start=1):
        write(folder / f"in{channel}_label", rail)
        write(folder / f"in{channel}_input", millivolts)
        write(folder / f"curr{channel}_input", milliamperes)
    return folder


def measure(meter, seconds=0.06):
    meter.begin()
    time.sleep(seconds)
    energy = meter.end()
    meter.close()
    return energy


def test_rapl_sums_the_packages_and_not_their_parts(tmp_path):
    first = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = rapl_zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    core = rapl_zone(tmp_path, "intel-rapl:0:0", "core", 0)
    psys = rapl_zone(tmp_path, "intel-rapl:2", "psys", 0)
    meter = open_energy_meter(tmp_path)
    meter.begin()
    for counter, value in ((first, 3_500_000), (second, 5_250_000), (core, 9_000_000), (psys, 9_000_000)):
        write(counter, value)
    energy = meter.end()
    assert energy.joules == pytest.approx(2.75)
    assert energy.source == "RAPL package-0 + package-1"
    assert energy.note == ""


def test_rapl_counter_wraps_at_its_range(tmp_path):
    counter = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=1_000_000)
    meter = RaplMeter.open(tmp_path)
    meter.begin()
    write(counter, 100_000)
    assert meter.end().joules == pytest.approx(0.2)


def test_rapl_does_not_guess_an_unknown_range(tmp_path):
    counter = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=None)
    meter = RaplMeter.open(tmp_path)
    meter.begin()
    write(counter, 100_000)
    energy = meter.end()
    assert energy.joules is None and "wrapped" in energy.note


def test_rapl_counter_that_disappears_gives_no_joules(tmp_path):
    counter = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = RaplMeter.open(tmp_path)
    meter.begin()
    counter.unlink()
    energy = meter.end()
    assert energy.joules is None and "could not be read" in energy.note


def test_permission_denied_names_file_and_remedy(tmp_path, monkeypatch):
    counter = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    if os.geteuid() == 0:  # root reads everything
        from edge_vlm.meters import rapl

        def denied(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(rapl, "read_integer", denied)
    else:
        counter.chmod(0)
    energy = measure(open_energy_meter(tmp_path), 0.0)
    assert energy.joules is None and energy.source == "unavailable"
    assert f"permission denied: {counter}" in energy.note and "sudo chmod" in energy.note


def test_a_machine_without_sensors_says_so_for_each(tmp_path):
    energy = measure(open_energy_meter(tmp_path, battery=True), 0.0)
    assert energy.joules is None
    for sensor in ("RAPL", "INA", "Pi 5", "battery"):
        assert sensor in energy.note


def test_jetson_total_rail_is_integrated(tmp_path):
    jetson(tmp_path, [("VDD_CPU_GPU_CV", 5000, 800), ("VDD_IN", 5000, 2000), ("VDD_SOC", 5000, 400)])
    meter = open_energy_meter(tmp_path)
    begin = time.perf_counter()
    meter.begin()
    time.sleep(0.06)
    energy = meter.end()
    elapsed_s = time.perf_counter() - begin
    meter.close()
    assert energy.source == "INA3221 VDD_IN"
    assert 10.0 * 0.06 <= energy.joules <= 10.0 * elapsed_s


def test_jetson_without_a_total_rail_is_not_summed(tmp_path):
    jetson(tmp_path, [("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400)])
    with pytest.raises(SensorUnavailable, match="ina3221/VDD_SOC"):
        InaMeter.open(tmp_path)


def test_ina238_gives_power_in_microwatts(tmp_path):
    folder = jetson(tmp_path, [], chip="ina238")
    write(folder / "power1_input", 25_000_000)
    energy = measure(InaMeter.open(tmp_path))
    assert energy.source == "INA238 power1" and 25 * 0.06 <= energy.joules < 25 * 1.0


PMIC = """  3V7_WL_SW_A current(0)=0.06831770A
     VDD_CORE_A current(7)=1.50000000A
   EXT5V_V volt(24)=5.12196000V
  3V7_WL_SW_V volt(8)=3.70000000V
     VDD_CORE_V volt(15)=0.80000000V
"""


def test_pi5_sums_the_rails_that_have_volts_and_amperes():
    assert sum_rails_w(PMIC) == pytest.approx(0.0683177 * 3.7 + 1.5 * 0.8)
    with pytest.raises(ValueError, match="no rail"):
        sum_rails_w("error=1 error_msg=Command not registered")


def test_pi5_marks_its_windows_as_estimates(tmp_path):
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0")
    command = tmp_path / "usr/bin/vcgencmd"
    write(command, f"#!/bin/sh\ncat <<'END'\n{PMIC}END")
    command.chmod(0o755)
    energy = measure(open_energy_meter(tmp_path))
    assert energy.joules > 0 and "estimate" in energy.source and "estimate" in energy.note


def test_pi5_whose_command_refuses_says_so(tmp_path):
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0")
    command = tmp_path / "usr/bin/vcgencmd"
    write(command, "#!/bin/sh\nexit 255")
    command.chmod(0o755)
    with pytest.raises(SensorUnavailable, match="group video"):
        Pi5Meter.open(tmp_path)


def test_a_battery_is_read_only_on_demand_and_while_it_discharges(tmp_path):
    folder = tmp_path / "sys/class/power_supply/BAT0"
    for name, text in (("type", "Battery"), ("status", "Discharging"), ("voltage_now", 12_000_000)):
        write(folder / name, text)
    write(folder / "current_now", -1_500_000)
    assert open_energy_meter(tmp_path).source == "unavailable"
    meter = open_energy_meter(tmp_path, battery=True)
    assert meter.source == "battery BAT0"
    assert meter._read_watts() == pytest.approx(18.0)
    write(folder / "status", "Charging")
    assert "not discharging" in measure(open_energy_meter(tmp_path, battery=True), 0.0).note


def test_integration_is_linear_between_samples_and_held_outside():
    samples = [(0.0, 10.0), (1.0, 20.0), (2.0, 20.0)]
    assert integrate_j(samples, 0.5, 1.5) == pytest.approx(0.5 * 17.5 + 0.5 * 20.0)
    assert integrate_j(samples, 2.5, 3.0) == pytest.approx(10.0)
    assert integrate_j(samples, -1.0, 0.0) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="no sample"):
        integrate_j([], 0.0, 1.0)


def test_a_sensor_that_goes_away_gives_no_joules():
    def gone():
        raise OSError("No such device")

    energy = measure(PowerIntegrator(gone, "INA3221 VDD_IN", rate_hz=100.0), 0.0)
    assert energy.joules is None and "No such device" in energy.note


def test_a_short_window_says_that_the_last_sample_was_held():
    meter = PowerIntegrator(lambda: 5.0, "slow", rate_hz=1.0)
    meter.begin()
    time.sleep(0.01)
    meter.end()
    meter.begin()
    energy = meter.end()
    meter.close()
    assert energy.joules >= 0 and "between two samples" in energy.note
