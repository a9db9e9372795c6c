"""What only an admin may ask for."""

from fastapi import APIRouter, Depends, Request

from service import access
from service.api.native import Core
from service.schemas.reply import ErrorReply, KeysReport, PackageReport, ReloadReply

router = APIRouter(prefix="/v1", tags=["administration"], dependencies=[Depends(access.admin)])


@router.post(
    "/models/reload",
    responses={
        401: {"description": "`unauthorized`: an admin's API key is needed", "model": ErrorReply},
        429: {"description": "`rate_limited`; see Retry-After", "model": ErrorReply},
        503: {"description": "`unavailable`: the server is stopping", "model": ErrorReply},
    },
)
async def reload(request: Request, translator: Core) -> ReloadReply:
    """Serve the packages that are in the models' directory now, to those whose keys are in the key file now; the reply
    comes when that is so.

    No request is dropped: those under way end with the models they began with. What fails is told with the reason, and
    what served in its place goes on.
    """
    error = request.app.state.access.reload()
    opened = await translator.reload()
    return ReloadReply(
        keys=KeysReport(outcome="failed" if error else "loaded", error=error or None),
        packages=[
            PackageReport(
                package=each.package,
                outcome=each.outcome,
                serving=f"{each.model.name} {each.model.manifest.version}" if each.model else None,
                error=each.error or None,
            )
            for each in opened
        ],
    )
