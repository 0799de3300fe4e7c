"""Document in OpenAPI that a record forbids unknown fields."""

from typing import Any

import msgspec
from litestar.openapi.spec import Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition


class StrictRecords(OpenAPISchemaPlugin):
    """Adds `additionalProperties: false`, which Litestar leaves out, to the schema of such a record."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return (
            not field_definition.is_union
            and field_definition.is_subclass_of(msgspec.Struct)
            and field_definition.annotation.__struct_config__.forbid_unknown_fields
        )

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema of the plugin that is otherwise responsible, closed to other properties."""
        others = (plugin for plugin in schema_creator.plugins if plugin is not self)
        usual = next(plugin for plugin in others if schema_creator.plugin_supports_field(plugin, field_definition))
        schema: Schema = usual.to_openapi_schema(field_definition, schema_creator)
        schema.additional_properties = False
        return schema
