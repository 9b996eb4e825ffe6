"""The study tools as LangChain tools.

from tunewright.agent.workbench import Workbench
from tunewright.plugins.chat import study_tools

agent = create_agent(model, study_tools(Workbench("tunewright.db")))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from langchain_core.tools import StructuredTool, ToolException

from tunewright.agent.chat.session import result_text
from tunewright.agent.redact import redact
from tunewright.agent.tools import TOOLS, Tool
from tunewright.agent.workbench import Workbench
from tunewright.engines.errors import TunewrightError
from tunewright.prompts.text import plain

MAX_ERROR = 1_000
LIMITS = ("title", "maximum", "exclusiveMinimum", "minimum", "maxLength", "minLength", "pattern", "minItems")


def study_tools(
    bench: Workbench, *, confirm: Callable[[str], bool] | None = None, allow_changes: bool = False
) -> list[StructuredTool]:
    """Tools of the study on `bench`, for an agent of your own. Results are text fenced as <data>.

    By default they only read. `confirm(question)` is asked before anything changes or is spent, and answers whether it
    may; `allow_changes` lets everything happen unasked.
    """

    def offered(tool: Tool) -> bool:
        return not tool.changes or allow_changes or confirm is not None

    def caller(tool: Tool) -> Callable[..., str]:
        def call(**given: Any) -> str:
            try:
                parsed = tool.parse(given)
                if tool.changes and not allow_changes and confirm is not None:
                    question = redact(tool.question(bench, parsed))
                    if question and not confirm(question):
                        raise ToolException("the person said no; nothing was changed")
                return fenced(tool.function(bench, parsed))
            except TunewrightError as error:
                raise ToolException(error_text(error)) from error

        return call

    return [
        StructuredTool.from_function(
            caller(tool), name=tool.name, description=tool.description, args_schema=schema(tool), handle_tool_error=True
        )
        for tool in TOOLS
        if offered(tool)
    ]


def remote_tools(call: Callable[[str, Mapping[str, Any]], Awaitable[str]]) -> list[StructuredTool]:
    """Every tool, carried out by `call(name, arguments)`, wherever that does it."""

    def caller(tool: Tool) -> Callable[..., Awaitable[str]]:
        async def forward(**given: Any) -> str:
            return await call(tool.name, given)

        return forward

    return [
        StructuredTool.from_function(
            coroutine=caller(tool), name=tool.name, description=tool.description, args_schema=schema(tool),
            handle_tool_error=True,
        )
        for tool in TOOLS
    ]  # fmt: skip


def schema(tool: Tool) -> dict[str, Any]:
    """The arguments as JSON schema, without what a model can do without: what does not fit is refused by the tool
    itself, in its own words, and what may be left out need not be said to be null, but where that has a meaning."""
    made = tool.arguments.model_json_schema()
    properties = {name: _lean(entry) for name, entry in made.get("properties", {}).items()}
    required = {key: made[key] for key in ("required",) if key in made}
    return {
        "type": "object", "properties": properties, **required, "title": tool.name, "description": tool.description,
    }  # fmt: skip


def _lean(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: value for key, value in entry.items() if key not in LIMITS and not (key == "default" and value is None)
    }
    if "null" in kept.get("description", ""):  # there it says something
        return kept
    given = [one for one in kept.pop("anyOf", []) if one != {"type": "null"}]
    if len(given) == 1:
        return {**_lean(given[0]), **kept}
    if given:
        kept["anyOf"] = [_lean(one) for one in given]
    return {key: value for key, value in kept.items() if value is not True or key == "default"}


def fenced(result: Any) -> str:
    """A result as a model reads it: data that no text inside can end."""
    return f"<data>\n{closed(result_text(result))}\n</data>"


def closed(text: str) -> str:
    """Text in which no mark-up ends; in JSON it means the same."""
    return text.replace("</", "<\\/")


def error_text(error: TunewrightError) -> str:
    return closed(plain(redact(str(error)), MAX_ERROR))
