"""JSON over HTTP for a tenant's rows: a list and an item, both validated by the model's form."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import RequestDataTooBig, ValidationError
from django.db import IntegrityError, models, transaction
from django.forms import ModelForm
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views import View

from backends.catalog.tenancy import TenantModel
from backends.identity.django import problem_response

PAGE, LARGEST_PAGE = 50, 200


class BadRequest(Exception):
    """The request cannot be read; the text is for the caller."""


class Invalid(Exception):
    """The request was read, and its values do not fit: {field: [message, ...]}."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        super().__init__("invalid values")
        self.errors = errors


class RestView(View):
    """What a list and an item share. A subclass says the form, the item's URL and the order of pages."""

    form: ClassVar[type[ModelForm]]
    item_url: ClassVar[str]
    order: ClassVar[str]  # a field that is unique within a tenant
    conflict: ClassVar[str]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().dispatch(request, *args, **kwargs)
        except BadRequest as error:
            return problem_response(400, str(error))
        except self.model.DoesNotExist:
            return problem_response(404, "There is no such entry.")
        except IntegrityError:
            return problem_response(409, self.conflict)
        except RequestDataTooBig:
            return problem_response(413, "The body is larger than 1 MiB.")
        except Invalid as error:
            return problem_response(422, "Some values do not fit; `errors` names them.", errors=error.errors)

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer = problem_response(405, "This address does not take this method; the header Allow says which.")
        answer["Allow"] = ", ".join(self._allowed_methods())
        return answer

    @property
    def model(self) -> type[TenantModel]:
        return self.form._meta.model

    def rows(self) -> models.QuerySet:
        """The caller's rows: the only ones that a view can reach."""
        return self.model.objects.for_tenant(self.request.identity.tenant)

    def represent(self, row: TenantModel) -> dict[str, Any]:
        """A row as JSON: its id, the form's fields and its absolute public address."""
        names = {name: self.model._meta.get_field(name).attname for name in self.form.base_fields}
        fields = {name: getattr(row, attribute) for name, attribute in names.items()}
        return {"id": row.pk, **fields, "url": self.url(row)}

    def url(self, row: TenantModel) -> str:
        return self.request.build_absolute_uri(reverse(self.item_url, args=[row.pk]))

    def write(self, row: TenantModel, values: dict[str, Any], status: int) -> HttpResponse:
        """Validate `values` into `row`, save it and answer with what the database then holds."""
        form = self.form(values, instance=row)
        problems = {name: ["There is no such field."] for name in values if name not in form.fields}
        problems |= {name: ["This must be text or a number."] for name in values if not _plain(values[name])}
        problems = problems or form.errors
        if problems:
            raise Invalid(problems)
        form.save()
        row.refresh_from_db()
        return JsonResponse(self.represent(row), status=status)


class ListView(RestView):
    """GET a page, POST a new entry."""

    def get(self, request: HttpRequest) -> HttpResponse:
        limit = self._limit()
        rows = self.rows().order_by(self.order)
        if "after" in request.GET:
            try:
                rows = rows.filter(**{f"{self.order}__gt": request.GET["after"]})
            except ValidationError:
                raise BadRequest("after must come from the `next` of an earlier page.") from None
        page = list(rows[: limit + 1])
        answer: dict[str, Any] = {"items": [self.represent(row) for row in page[:limit]], "next": None}
        if len(page) > limit:
            query = request.GET.copy()
            query["after"] = getattr(page[limit - 1], self.order)
            answer["next"] = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
        return JsonResponse(answer)

    def post(self, request: HttpRequest) -> HttpResponse:
        row = self.model(tenant=request.identity.tenant)
        answer = self.write(row, read_object(request), 201)
        answer["Location"] = self.url(row)
        return answer

    def _limit(self) -> int:
        text = self.request.GET.get("limit", str(PAGE))
        if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= LARGEST_PAGE):
            raise BadRequest(f"limit must be a whole number from 1 to {LARGEST_PAGE}.")
        return int(text)


class ItemView(RestView):
    """GET, PUT, PATCH, DELETE one entry. What another tenant has is as absent as what nobody has.

    A change is one transaction, from the read to the write: no other writer comes between.
    """

    def get(self, request: HttpRequest, id: Any) -> HttpResponse:
        return JsonResponse(self.represent(self.rows().get(pk=id)))

    @transaction.atomic
    def put(self, request: HttpRequest, id: Any) -> HttpResponse:
        found = self.rows().get(pk=id)
        # A fresh row: a field that is left out gets its default, not the old value.
        row = self.model(pk=found.pk, tenant=found.tenant)
        row._state.adding = False
        return self.write(row, read_object(request), 200)

    @transaction.atomic
    def patch(self, request: HttpRequest, id: Any) -> HttpResponse:
        row = self.rows().get(pk=id)
        values = {**model_to_dict(row, fields=self.form.base_fields), **read_object(request)}
        return self.write(row, values, 200)

    @transaction.atomic
    def delete(self, request: HttpRequest, id: Any) -> HttpResponse:
        self.rows().get(pk=id).delete()
        return HttpResponse(status=204)


def read_object(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body, or BadRequest. Numbers with a fraction stay exact."""
    try:
        value = json.loads(request.body, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _plain(value: Any) -> bool:
    """Whether a form can take the value: no object, list or boolean, and no text that UTF-8 cannot write."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return not isinstance(value, dict | list | bool)
