"""The base of what training_metadata.json records: frozen, and readable by versions that know fewer or more fields."""

from pydantic import BaseModel, ConfigDict


class Facts(BaseModel):
    """Facts about a model. Fields of later versions are ignored; those that earlier versions lack must have a default."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)  # for start-up time
