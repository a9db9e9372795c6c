"""What only an admin may ask for."""

from fastapi import APIRouter, Depends

from service import access
from service.api.native import Core
from service.schemas import ErrorReply, PackageReport, ReloadReply

router = APIRouter(prefix="/v1", tags=["administration"], dependencies=[Depends(access.admin)])


@router.post(
    "/models/reload",
    responses={
        401: {"description": "`unauthorized`: an admin's API key is needed", "model": ErrorReply},
        429: {"description": "`rate_limited`; see Retry-After", "model": ErrorReply},
        503: {"description": "`unavailable`: the server is stopping", "model": ErrorReply},
    },
)
async def reload(translator: Core) -> ReloadReply:
    """Serve the packages that are in the models' directory now; the reply comes when they do.

    No request is dropped: those under way end with the models they began with. What fails is told with the reason, and
    what served in its place goes on.
    """
    return ReloadReply(
        packages=[
            PackageReport(
                package=each.package,
                outcome=each.outcome,
                serving=f"{each.model.name} {each.model.manifest.version}" if each.model else None,
                error=each.error or None,
            )
            for each in await translator.reload()
        ]
    )
