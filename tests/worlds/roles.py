"""Users of Airflow with the roles that the operations page tells apart."""

from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

USERS = {"viewer": "VIEWER", "auditor": "VIEWER", "operator": "OP", "admin": "ADMIN"}


class RolesAuthManager(SimpleAuthManager):
    """Airflow's simple one, in which a viewer sees no XComs, unless it is the auditor.

    Roles of real auth managers are made so: permission on runs without that on XComs.
    """

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: SimpleAuthManagerUser,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """As the simple one does, with that exception."""
        if access_entity is DagAccessEntity.XCOM and user.get_name() == "viewer":
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
