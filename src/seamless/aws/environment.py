"""An environment's CloudFormation template: a pure function of its facts, and of what runs there when it is changed.

What a stack owns: one cluster with its Service Connect namespace, and for each service its roles, log group,
security group, task definition and service. Tasks reach each other at `http://<service>:<port>`. Every task
carries the members' group; a service's own group lets only members in, on its port (and the load balancer, when it
is public).

A deployment gives a service another task definition than the stack's. A later change of the stack must not undo that,
and CloudFormation would whenever it touches the service. So a service that a change touches is rendered with
the containers that run now, and one that it does not touch keeps its task definition to the letter.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from seamless.aws.facts import Facts, ServiceFacts
from seamless.aws.placeholder import LABEL, command
from seamless.errors import UsageError

Json = dict[str, Any]

METADATA_KEY: Final = "Seamless"
ROLE_PATH: Final = "/seamless/"  # of every role, so that policies can name them
LOG_FOLDER: Final = "/seamless"
_GRACE_S: Final = 60  # in which a load balancer's health check does not count
_MAPS_WITH_FREE_KEYS: Final = frozenset({"dockerLabels", "options"})  # of container definitions

_ECS_TASKS: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
        }
    ],
}


def render(facts: Facts) -> Json:
    """The template of an environment whose services have not been deployed yet."""
    resources = _shared(facts)
    for service in facts.services:
        resources |= _service_resources(facts, service)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Seamless: {facts.environment}, {len(facts.services)} services on Fargate",
        "Metadata": {METADATA_KEY: {"Facts": facts.to_json()}},
        "Resources": resources,
        "Outputs": {"Cluster": {"Value": {"Ref": "Cluster"}}, "Namespace": {"Value": {"Ref": "Namespace"}}},
    }


def rendered_body(template: Mapping[str, Any]) -> str:
    """As it is sent: the same template is the same text."""
    return json.dumps(template, separators=(",", ":"))


def facts_of(template: Mapping[str, Any]) -> Facts:
    """The facts that a template was rendered from. Raises UsageError when it is not one of ours."""
    metadata = template.get("Metadata", {}).get(METADATA_KEY)
    if not isinstance(metadata, Mapping) or "Facts" not in metadata:
        raise UsageError(
            "the stack's template does not hold the facts of an environment", hint="Seamless did not make it"
        )
    return Facts.from_json(metadata["Facts"])


def touched(old: Mapping[str, Any], facts: Facts) -> tuple[str, ...]:
    """Services of the old template that a change to `facts` would deploy anew."""
    before, after = render(facts_of(old))["Resources"], render(facts)["Resources"]
    found = []
    for service in facts.services:
        definition, own = logical_id(service.name, "TaskDefinition"), logical_id(service.name, "Service")
        if own not in old["Resources"]:
            continue
        if before[definition] != after[definition] or old["Resources"][own] != after[own]:
            found.append(service.name)
    return tuple(found)


def renew(old: Mapping[str, Any], facts: Facts, running: Mapping[str, Mapping[str, Any]]) -> Json:
    """The template for `facts` over a stack whose template is `old`.

    `running`: for each of `touched(old, facts)`, the task definition that runs now, as DescribeTaskDefinition gives it.
    """
    template = render(facts)
    changed = touched(old, facts)
    for service in facts.services:
        definition = logical_id(service.name, "TaskDefinition")
        if service.name in changed:
            properties = template["Resources"][definition]["Properties"]
            (fresh,) = properties["ContainerDefinitions"]
            properties["ContainerDefinitions"] = [
                _as_running(container, fresh, service) for container in running[service.name]["containerDefinitions"]
            ]
            if volumes := running[service.name].get("volumes"):
                properties["Volumes"] = _capitalised(volumes)
        elif definition in old["Resources"]:
            template["Resources"][definition] = copy.deepcopy(old["Resources"][definition])
    return template


def logical_id(service: str, kind: str) -> str:
    """`payment-api`, `Service` -> `PaymentDashapiService`: letters and digits only, another one for each name."""
    name = service.replace("-", "Dash")
    return f"{name[0].upper()}{name[1:]}{kind}"


def difference(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What a change does: ("add", "change" or "remove", resource type, logical id), in the new template's order."""
    before, after = (old or {}).get("Resources", {}), new["Resources"]
    found = []
    for name, resource in after.items():
        if name not in before:
            found.append(("add", resource["Type"], name))
        elif before[name] != resource:
            found.append(("change", resource["Type"], name))
    return found + [("remove", before[name]["Type"], name) for name in before if name not in after]


def _shared(facts: Facts) -> Json:
    return {
        "Namespace": {
            "Type": "AWS::ServiceDiscovery::HttpNamespace",
            "Properties": {"Name": facts.cluster, "Description": f"Seamless: {facts.environment}"},
        },
        "Cluster": {
            "Type": "AWS::ECS::Cluster",
            "Properties": {
                "ClusterName": facts.cluster,
                "ServiceConnectDefaults": {"Namespace": _attribute("Namespace", "Arn")},
            },
        },
        "EnvironmentMembers": _group(facts, f"Tasks of the cluster {facts.cluster}", []),
    }


def _service_resources(facts: Facts, service: ServiceFacts) -> Json:
    def name(kind: str) -> str:
        return logical_id(service.name, kind)

    return {
        name("LogGroup"): {
            "Type": "AWS::Logs::LogGroup",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "LogGroupName": f"{LOG_FOLDER}/{facts.cluster}/{service.name}",
                "RetentionInDays": facts.log_days,
            },
        },
        name("ExecutionRole"): _role(
            f"Starts the tasks of {service.name}: its image, its log, its secrets",
            _execution_statements(facts, service, name("LogGroup")),
        ),
        name("TaskRole"): _role(f"What {service.name} itself may do: nothing, until policies are attached", []),
        name("Group"): _group(facts, f"{service.name} in {facts.cluster}", _ingress(service)),
        name("TaskDefinition"): {
            "Type": "AWS::ECS::TaskDefinition",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Retain",  # a rollback may need the one that is replaced
            "Properties": {
                "Family": f"{facts.cluster}-{service.name}",
                "RequiresCompatibilities": ["FARGATE"],
                "NetworkMode": "awsvpc",
                "Cpu": str(service.cpu),
                "Memory": str(service.memory),
                "RuntimePlatform": {"CpuArchitecture": facts.architecture, "OperatingSystemFamily": "LINUX"},
                "ExecutionRoleArn": _attribute(name("ExecutionRole"), "Arn"),
                "TaskRoleArn": _attribute(name("TaskRole"), "Arn"),
                "ContainerDefinitions": [_placeholder(facts, service, name("LogGroup"))],
            },
        },
        name("Service"): _service(facts, service),
    }


def _placeholder(facts: Facts, service: ServiceFacts, log_group: str) -> Json:
    container: Json = {
        "Name": service.container,
        "Image": facts.placeholder,
        "Essential": True,
        "Command": command(service.port, service.health),
        "DockerLabels": {LABEL: "true"},
        "LinuxParameters": {"InitProcessEnabled": True},
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": {"Ref": log_group},
                "awslogs-region": {"Ref": "AWS::Region"},
                "awslogs-stream-prefix": service.name,
                "mode": "non-blocking",
                "max-buffer-size": "25m",
            },
        },
    }
    if service.port is not None:
        container["PortMappings"] = [_port_mapping(service.port)]
    return container


def _port_mapping(port: int) -> Json:
    """Without AppProtocol: as TCP, Service Connect passes on whatever a service speaks, gRPC and WebSockets too."""
    return {"ContainerPort": port, "Protocol": "tcp", "Name": _PORT_NAME}


_PORT_NAME: Final = "main"


def _service(facts: Facts, service: ServiceFacts) -> Json:
    properties: Json = {
        "ServiceName": service.name,
        "Cluster": {"Ref": "Cluster"},
        "TaskDefinition": {"Ref": logical_id(service.name, "TaskDefinition")},
        "LaunchType": "FARGATE",
        "DesiredCount": service.count,
        "DeploymentConfiguration": {
            "MinimumHealthyPercent": 100,
            "MaximumPercent": 200,
            "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
        },
        "NetworkConfiguration": {
            "AwsvpcConfiguration": {
                "Subnets": list(facts.subnets),
                "SecurityGroups": [
                    _attribute("EnvironmentMembers", "GroupId"),
                    _attribute(logical_id(service.name, "Group"), "GroupId"),
                ],
                "AssignPublicIp": "ENABLED" if facts.public_address else "DISABLED",
            }
        },
        "EnableECSManagedTags": True,
        "PropagateTags": "SERVICE",
        "ServiceConnectConfiguration": {"Enabled": True, "Namespace": _attribute("Namespace", "Arn")},
    }
    if service.port is not None:
        properties["ServiceConnectConfiguration"]["Services"] = [
            {
                "PortName": _PORT_NAME,
                "DiscoveryName": service.name,
                "ClientAliases": [{"Port": service.port, "DnsName": service.name}],
            }
        ]
    if service.target_group is not None:
        properties["LoadBalancers"] = [
            {
                "ContainerName": service.container,
                "ContainerPort": service.port,
                "TargetGroupArn": service.target_group,
            }
        ]
        properties["HealthCheckGracePeriodSeconds"] = _GRACE_S
    return {"Type": "AWS::ECS::Service", "Properties": properties}


def _group(facts: Facts, description: str, ingress: list[Json]) -> Json:
    return {
        "Type": "AWS::EC2::SecurityGroup",
        "Properties": {
            "GroupDescription": f"Seamless: {description}",
            "VpcId": facts.vpc,
            "SecurityGroupIngress": ingress,
            "SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "everywhere"}],
        },
    }


def _ingress(service: ServiceFacts) -> list[Json]:
    if service.port is None:
        return []
    port = {"IpProtocol": "tcp", "FromPort": service.port, "ToPort": service.port}
    members = {**port, "SourceSecurityGroupId": _attribute("EnvironmentMembers", "GroupId"), "Description": "members"}
    others = [
        {**port, "SourceSecurityGroupId": group, "Description": "its load balancer"} for group in service.reached_from
    ]
    return [members, *others]


def _role(description: str, statements: list[Json]) -> Json:
    properties: Json = {
        "Path": ROLE_PATH,
        "Description": description,
        "AssumeRolePolicyDocument": copy.deepcopy(_ECS_TASKS),
    }
    if statements:
        document = {"Version": "2012-10-17", "Statement": statements}
        properties["Policies"] = [{"PolicyName": "seamless", "PolicyDocument": document}]
    return {"Type": "AWS::IAM::Role", "Properties": properties}


def _execution_statements(facts: Facts, service: ServiceFacts, log_group: str) -> list[Json]:
    statements = [
        _allow(["logs:CreateLogStream", "logs:PutLogEvents"], [_attribute(log_group, "Arn")]),
    ]
    if service.repository is not None:
        images = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        statements.append(_allow(images, [_named_here("ecr", "repository/", service.repository)]))
        statements.append(_allow(["ecr:GetAuthorizationToken"], "*"))  # it knows no resources
    if service.parameters:
        named = [_named_here("ssm", "parameter/", name.removeprefix("/")) for name in service.parameters]
        statements.append(_allow(["ssm:GetParameters"], named))
    if service.secrets:
        named = [arn for name in service.secrets for arn in _secret_arns(name)]
        statements.append(_allow(["secretsmanager:GetSecretValue"], named))
    if facts.keys and (service.parameters or service.secrets):
        statements.append(_allow(["kms:Decrypt"], list(facts.keys)))
    return statements


def _allow(actions: list[str], resources: Any) -> Json:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _named_here(service: str, kind: str, name: str) -> Any:
    """An ARN as it is; a name as something of this account and region."""
    return name if name.startswith("arn:") else _arn(service, f"{kind}{name}")


def _secret_arns(name: str) -> list[Any]:
    """Secrets Manager appends a hyphen and six random characters to a name; an ARN may be written without them."""
    if name.startswith("arn:"):
        return [name, f"{name}-??????"]
    return [_arn("secretsmanager", f"secret:{name}-??????")]


def _arn(service: str, rest: str) -> Any:
    """The ARN of something of this account and region."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{rest}"}


def _attribute(resource: str, name: str) -> Json:
    return {"Fn::GetAtt": [resource, name]}


def _as_running(container: Mapping[str, Any], fresh: Mapping[str, Any], service: ServiceFacts) -> Json:
    """A container that runs now, as CloudFormation writes it; the service's own with the port of the facts."""
    if LABEL in (container.get("dockerLabels") or {}):
        return dict(fresh)
    written: Json = _capitalised(container)
    if written["Name"] == service.container:
        written.pop("PortMappings", None)
        if "PortMappings" in fresh:
            written["PortMappings"] = fresh["PortMappings"]
    return written


def _capitalised(value: Any, key: str = "") -> Any:
    """The API's `containerDefinitions` in CloudFormation's spelling, without what is empty."""
    if isinstance(value, Mapping):
        if key in _MAPS_WITH_FREE_KEYS:
            return dict(value)
        return {
            f"{name[0].upper()}{name[1:]}": _capitalised(item, name)
            for name, item in value.items()
            if item not in (None, [], {})
        }
    if isinstance(value, list):
        return [_capitalised(item) for item in value]
    return value
