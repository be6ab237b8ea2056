"""Instance templates, global and of a region."""

from __future__ import annotations

from collections.abc import Iterator

from drillyard_emulators.gcp.compute.documents import template_document
from drillyard_emulators.gcp.compute.effects import Effects, check_properties, named
from drillyard_emulators.gcp.compute.model import Template
from drillyard_emulators.gcp.compute.routing import Call, Routes
from drillyard_emulators.gcp.compute.world import World
from drillyard_emulators.http.fields import Document, member
from drillyard_emulators.http.wire import Refusal


class TemplatesApi(Effects):
    """Adds its methods to the routes."""

    def __init__(self, world: World, routes: Routes) -> None:
        super().__init__(world)
        add = routes.add
        for scope in ("(?P<where>global)", "(?P<where>regions/[^/]+)"):
            base = f"{scope}/instanceTemplates"
            add("POST", base, "instanceTemplates.insert", self._new_template)
            self.add_lists(routes, "instanceTemplate", base, self._templates, self._template)
            add("DELETE", base + "/{name}", "instanceTemplates.delete", self._delete_template)

    def _new_template(self, call: Call) -> Document:
        body, world = call.body, self._world
        name = named(body)
        key = f"{call.where}/instanceTemplates/{name}"
        if key in world.templates and (refusal := self.taken(call, key)):
            raise refusal
        properties = member(body, "properties")
        if not properties.get("machineType") or not properties.get("disks"):
            text = "Invalid value for field 'resource.properties': a machine type and a disk"
            raise Refusal(400, "invalid", f"{text} are needed.")
        check_properties(properties)
        now = world.clock.now()
        number = world.instances.next_id()
        lag = world.instances.lag()
        template = Template(number, name, call.where, body, now, listed_from=now + lag)
        return self.do(call, "insert", key, lambda: world.templates.update({key: template}))

    def _found_template(self, call: Call) -> Template:
        key = f"{call.where}/instanceTemplates/{call.name}"
        template = self._world.templates.get(key)
        if template is None:
            raise self.missing(key)
        return template

    def _templates(self, where: str) -> Iterator[Document]:
        for template in self._world.listed_templates():
            if template.where == where:
                yield template_document(self._world.api, template)

    def _template(self, call: Call) -> Document:
        return template_document(self._world.api, self._found_template(call))

    def _delete_template(self, call: Call) -> Document:
        world, template = self._world, self._found_template(call)
        for group in world.groups.living.values():
            if group.template == template.key:
                text = f"The instance_template resource '{template.key}' is already being used by"
                raise Refusal(400, "resourceInUseByAnotherResource", f"{text} '{group.key}'")

        def effect() -> None:
            del world.templates[template.key]
            template.listed_until = world.clock.now() + world.instances.lag()
            world.past_templates.append(template)

        return self.do(call, "delete", template.key, effect)
