import socket
from collections.abc import Iterator

import pytest

from local.processes.layout import LOOPBACK, PortError, choose_ports

pytestmark = pytest.mark.enable_socket


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    return choose_ports("probe")["probe"]


def test_chosen_ports_are_different_and_can_be_listened_on() -> None:
    ports = choose_ports(*(f"service-{number}" for number in range(20)))
    assert len(set(ports.values())) == 20
    for port in ports.values():
        socket.create_server((LOOPBACK, port)).close()


def test_chosen_ports_lie_below_the_range_of_outgoing_connections() -> None:
    ports = choose_ports(*(f"service-{number}" for number in range(20)))
    assert all(20_000 <= port < 32_000 for port in ports.values())


def test_a_fixed_free_port_is_taken_as_it_is() -> None:
    port = free_port()
    assert choose_ports("aws", fixed={"aws": port}) == {"aws": port}


def test_a_preferred_port_is_taken_if_free_and_left_if_not(taken_port: int) -> None:
    port = free_port()
    assert choose_ports("airflow", preferred={"airflow": port}) == {"airflow": port}
    assert choose_ports("airflow", preferred={"airflow": taken_port})["airflow"] != taken_port


def test_a_taken_fixed_port_names_port_service_and_the_way_out(taken_port: int) -> None:
    with pytest.raises(PortError) as error:
        choose_ports("airflow", fixed={"airflow": taken_port})
    message = str(error.value)
    for part in (str(taken_port), "airflow", "already in use", "--airflow-port", "AIRFLOW_PORT"):
        assert part in message


def test_a_port_taken_on_all_interfaces_counts_as_taken() -> None:
    with socket.create_server(("", 0)) as listener, pytest.raises(PortError, match="already in use"):
        choose_ports("aws", fixed={"aws": listener.getsockname()[1]})


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(PortError, match=r"out of range.*1 to 65535"):
        choose_ports("aws", fixed={"aws": port})


def test_one_port_for_two_services_is_refused() -> None:
    port = free_port()
    with pytest.raises(PortError, match=f"port {port} for partners"):
        choose_ports("aws", "partners", fixed={"aws": port, "partners": port})


def test_a_preferred_port_gives_way_to_a_fixed_one() -> None:
    port = free_port()
    ports = choose_ports("airflow", "aws", fixed={"aws": port}, preferred={"airflow": port})
    assert ports["aws"] == port
    assert ports["airflow"] != port
