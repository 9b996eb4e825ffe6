"""The MCP server, through the SDK's own client: in process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from tunewright.agent import Agent, Budget, Float, Int
from tunewright.agent.workbench import Workbench

mcp = pytest.importorskip("mcp")
from tunewright.plugins.mcp import server  # noqa: E402

SPACE = {"lr": Float(1e-5, 1e-1, log=True), "width": Int(8, 64)}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "s.db"
    with Agent(SPACE, metric="loss", engine="random", store=path, study="s", budget=Budget(trials=20)) as agent:
        agent.tune(lambda trial: trial["lr"] * trial["width"], 6)
    return path


def talk(target, conversation):
    async def run():
        async with mcp.Client(target) as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_tools_resources_and_prompts_in_process(path):
    bench = Workbench(path)

    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        study = await client.call_tool("study", {})
        why = await client.call_tool("why", {"number": 3})
        listed = await client.call_tool("trials", {"sort": "best", "limit": 2})
        resource = await client.read_resource("study://s/trials")
        reason = await client.read_resource("study://s/trials/2/why")
        listing = [str(found.uri) for found in (await client.list_resources()).resources]
        templates = [t.uri_template for t in (await client.list_resource_templates()).resource_templates]
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        asked = await client.get_prompt("explain", {"number": "3"})
        return tools, study, why, listed, resource, reason, listing, templates, prompts, asked

    found = talk(server(bench), conversation)
    tools, study, why, listed, resource, reason, listing, templates, prompts, asked = found
    assert "study" in tools and "freeze" not in tools
    assert tools["trial"].input_schema["properties"]["number"]["minimum"] == 0
    assert json.loads(study.content[0].text)["trials"] == {"complete": 6}
    assert "Chosen by" in why.content[0].text
    assert not listed.is_error
    assert len(json.loads(resource.contents[0].text)) == 6
    assert "Trial 2" in reason.contents[0].text
    assert prompts == ["review", "explain", "begin"]
    assert "trial 3" in asked.messages[0].content.text
    assert listing == ["study://s", "study://s/trials"]
    assert "study://{name}/trials/{number}" in templates
    bench.close()


def test_results_are_typed(path):
    bench = Workbench(path)

    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        given = {"trial": {"number": 3}, "compare": {"numbers": [1, 2]}}
        return tools, {name: await client.call_tool(name, given.get(name, {})) for name in
                       ("study", "trials", "trial", "compare", "space", "doctor", "files", "advice")}  # fmt: skip

    tools, results = talk(server(bench), conversation)
    assert {"number", "curve", "ended_because"} <= set(tools["trial"].output_schema["required"])
    assert tools["study"].output_schema["properties"]["space"]["additionalProperties"] == {"type": "string"}
    for name, result in results.items():  # the SDK's client holds each against its schema
        assert not result.is_error and result.structured_content is not None, name
    assert results["trial"].structured_content["ended_because"] == "it was trained to its end"
    assert len(results["trials"].structured_content["result"]) == 6
    bench.close()


def test_a_study_is_made_through_the_server(tmp_path):
    (tmp_path / "train.py").write_text("import argparse\nargparse.ArgumentParser().add_argument('--lr', default=0.1)")
    bench = Workbench(tmp_path / "t.db")

    async def conversation(client):
        none = await client.call_tool("study", {})
        await client.call_tool("create_study", {"file": "train.py", "name": "new"})
        return none, await client.read_resource("study://new/trials"), await client.call_tool("study", {})

    none, listed, study = talk(server(bench, changes=True), conversation)
    assert none.is_error and "there is no study yet" in none.content[0].text
    assert json.loads(listed.contents[0].text) == []
    assert study.structured_content["study"] == "new"
    bench.close()


def test_changes_are_offered_only_when_allowed_and_marked(path):
    bench = Workbench(path)

    async def conversation(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        frozen = await client.call_tool("freeze", {"parameter": "width", "value": 16})
        wrong = await client.call_tool("freeze", {"parameter": "depth"})
        unfit = await client.call_tool("trial", {"number": -1})
        return tools, frozen, wrong, unfit

    tools, frozen, wrong, unfit = talk(server(bench, changes=True), conversation)
    assert not tools["freeze"].annotations.read_only_hint
    assert tools["study"].annotations.read_only_hint
    assert not frozen.is_error
    assert bench.agent.space.parameters["width"].choices == (16,)
    assert wrong.is_error and "no such parameter" in wrong.content[0].text
    assert unfit.is_error
    bench.close()


def test_over_stdio(path):
    parameters = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", "from tunewright.plugins.mcp import command; command()", "s", "--store", str(path)],
        env={**os.environ},
    )

    async def conversation(client):
        return await client.call_tool("study", {})

    assert json.loads(talk(parameters, conversation).content[0].text)["study"] == "s"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_over_http_with_a_token(path):
    import httpx
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", "from tunewright.plugins.mcp import command; command()", "s", "--store", str(path),
         "--http", str(port)],
        env={**os.environ, "TUNEWRIGHT_MCP_TOKEN": "sesame"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                refused = httpx.post(url, json={})
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert refused.status_code == 401
        who = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": who}
        headers = {"authorization": "Bearer sesame", "accept": "application/json, text/event-stream"}
        answered = httpx.post(url, json=body, headers=headers)
        assert answered.status_code == 200
        assert "tunewright" in answered.text

        async def conversation():
            async with (
                httpx2.AsyncClient(headers={"authorization": "Bearer sesame"}) as http,
                mcp.Client(streamable_http_client(url, http_client=http)) as client,
            ):
                return await client.call_tool("why", {"number": 1})

        why = asyncio.run(asyncio.wait_for(conversation(), 60))
        assert "Trial 1" in why.content[0].text
    finally:
        process.terminate()
        process.wait(10)
