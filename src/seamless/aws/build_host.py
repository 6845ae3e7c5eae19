"""The build host's CloudFormation template: one EC2 instance that nobody can reach, and what it may do.

Its facts are parameters of the stack, so the template itself is the same for everybody. What is on the data volume
(configuration, credentials, database, images) is the host; everything else is installed again by the user data,
`build_host.sh`. Why it is made like this: docs/decisions/0021-build-host.md.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from seamless.aws.permissions import Purpose, Scope, policy

Json = dict[str, Any]

ROLE_PATH: Final = "/seamless-host/"  # outside of that of environments, whose roles the host may be allowed to change
SETUP_S: Final = 2400  # within which user data tells CloudFormation that the agent runs
_SCRIPT: Final = "build_host.sh"
_HERE: Final = Scope(
    "${AWS::Partition}",
    "${AWS::Region}",
    "${AWS::AccountId}",
    "${Cluster}",
    parameter="${SecretNames}",
    secret="${SecretNames}",
)
_NO_VALUE: Final = {"Ref": "AWS::NoValue"}
_YES_NO: Final = ["yes", "no"]

# Patterns let through no quote, no space and nothing else that would end a shell's '…'.
_PARAMETERS: Final[Json] = {
    "Vpc": {"Type": "AWS::EC2::VPC::Id", "Description": "Where the host is."},
    "Subnet": {
        "Type": "AWS::EC2::Subnet::Id",
        "Description": "One with a way out: a NAT gateway, or an internet gateway and PublicAddress or WebhookHost.",
    },
    "Zone": {
        "Type": "AWS::EC2::AvailabilityZone::Name",
        "Description": "The subnet's availability zone: the data volume is there.",
    },
    "Image": {
        "Type": "AWS::EC2::Image::Id",
        "Description": "Debian 13 or 12. Its id, and no parameter that leads to the latest: another image is another "
        "host, so it changes only when you say so.",
    },
    "InstanceType": {
        "Type": "String",
        "Default": "t3.large",
        "AllowedPattern": "[a-z0-9-]+\\.[a-z0-9-]+",
        "Description": "Of the Nitro system, and of the image's architecture.",
    },
    "Source": {
        "Type": "String",
        "AllowedPattern": "(https?|git\\+https|git\\+http)://[A-Za-z0-9._~:/?#@!$&()*+,;=%-]+",
        "Description": "What pip installs: the URL of a wheel, or git+https://host/owner/seamless@v0.1.0.",
    },
    "DataSize": {
        "Type": "Number",
        "Default": 100,
        "MinValue": 20,
        "MaxValue": 16384,
        "Description": "GiB of the data volume: images, caches, checkouts, logs.",
    },
    "DataSnapshot": {
        "Type": "String",
        "Default": "",
        "AllowedPattern": "(snap-[0-9a-f]+)?",
        "Description": "A snapshot of another host's data volume, to go on with its data.",
    },
    "Target": {
        "Type": "String",
        "Default": "ecs",
        "AllowedValues": ["ecs", "docker"],
        "Description": "Where services are deployed: ECS, or the host's own Docker Engine.",
    },
    "Cluster": {
        "Type": "String",
        "Default": "*",
        "AllowedPattern": "[A-Za-z0-9_*-]+",
        "Description": "ECS clusters that the host may deploy to; * stands for anything.",
    },
    "Environments": {
        "Type": "String",
        "Default": "no",
        "AllowedValues": _YES_NO,
        "Description": "Whether the host may make and delete environments (seamless env up).",
    },
    "SecretNames": {
        "Type": "String",
        "Default": "seamless/*",
        "AllowedPattern": "[A-Za-z0-9/_+=.@*-]+",
        "Description": "Names of the SSM parameters and Secrets Manager secrets that stages may read.",
    },
    "PublicAddress": {
        "Type": "String",
        "Default": "no",
        "AllowedValues": _YES_NO,
        "Description": "An address of its own, for a subnet without NAT gateway. Nothing can come in by it.",
    },
    "WebhookHost": {
        "Type": "String",
        "Default": "",
        "AllowedPattern": "([a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+)?",
        "Description": "Name under which GitHub reaches the host, such as ci.acme.example. Opens port 443, and gives "
        "the host an address, to which the name must lead. Empty: the host is private, and asks.",
    },
}

_CONDITIONS: Final[Json] = {
    "HasWebhooks": {"Fn::Not": [{"Fn::Equals": [{"Ref": "WebhookHost"}, ""]}]},
    "HasAddress": {"Fn::Or": [{"Condition": "HasWebhooks"}, {"Fn::Equals": [{"Ref": "PublicAddress"}, "yes"]}]},
    "HasSnapshot": {"Fn::Not": [{"Fn::Equals": [{"Ref": "DataSnapshot"}, ""]}]},
    "DeploysToEcs": {"Fn::Equals": [{"Ref": "Target"}, "ecs"]},
    "MakesEnvironments": {"Fn::Equals": [{"Ref": "Environments"}, "yes"]},
}

# What user data is told, by the names that the script knows.
_VALUES: Final[Json] = {
    "SOURCE": {"Ref": "Source"},
    "REGION": {"Ref": "AWS::Region"},
    "TARGET": {"Ref": "Target"},
    "VOLUME": {"Ref": "DataVolume"},
    "WEBHOOK_HOST": {"Ref": "WebhookHost"},
    "SSM_AGENT": {"Fn::Sub": "https://s3.${AWS::Region}.${AWS::URLSuffix}/amazon-ssm-${AWS::Region}/latest"},
    "SIGNAL_URL": {"Ref": "Ready"},
}


def render() -> Json:
    """The template."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Seamless: a build host",
        "Parameters": _PARAMETERS,
        "Conditions": _CONDITIONS,
        "Resources": {**_network(), **_role(), **_host()},
        "Outputs": {
            "Shell": {
                "Description": "How to get in",
                "Value": {"Fn::Sub": "aws ssm start-session --region ${AWS::Region} --target ${Host}"},
            },
            "Role": {"Description": "For what else the host is to do", "Value": {"Ref": "Role"}},
            "DataVolume": {"Value": {"Ref": "DataVolume"}},
            "Address": {
                "Condition": "HasAddress",
                "Description": "Where WebhookHost must lead to, by an A record",
                "Value": {"Ref": "Address"},
            },
        },
    }


def user_data(values: Json) -> list[Any]:
    """The script with its values set, as parts to be joined. A value must hold no single quote."""
    script = files("seamless.aws").joinpath(_SCRIPT).read_text(encoding="utf-8")
    parts: list[Any] = ["#!/bin/bash\n"]
    for name, value in values.items():
        parts += [f"{name}='", value, "'\n"]
    return [*parts, script]


def _network() -> Json:
    webhooks = {
        "IpProtocol": "tcp",
        "FromPort": 443,
        "ToPort": 443,
        "CidrIp": "0.0.0.0/0",
        "Description": "webhooks, and who proves the certificate",
    }
    return {
        "Group": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "Seamless: the build host",
                "VpcId": {"Ref": "Vpc"},
                "SecurityGroupIngress": {"Fn::If": ["HasWebhooks", [webhooks], []]},
                "SecurityGroupEgress": [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "everywhere"}],
            },
        },
        "Interface": {  # of its own, so that the address is there before user data needs the way out
            "Type": "AWS::EC2::NetworkInterface",
            "Properties": {
                "SubnetId": {"Ref": "Subnet"},
                "GroupSet": [{"Fn::GetAtt": ["Group", "GroupId"]}],
                "Description": "Seamless: the build host",
            },
        },
        "Address": {"Type": "AWS::EC2::EIP", "Condition": "HasAddress", "Properties": {"Domain": "vpc"}},
        "AddressOfHost": {
            "Type": "AWS::EC2::EIPAssociation",
            "Condition": "HasAddress",
            "Properties": {
                "AllocationId": {"Fn::GetAtt": ["Address", "AllocationId"]},
                "NetworkInterfaceId": {"Ref": "Interface"},
            },
        },
    }


def _role() -> Json:
    return {
        "Role": {
            "Type": "AWS::IAM::Role",
            "Properties": {
                "Description": "The build host: Session Manager, and what the agent does in AWS",
                "AssumeRolePolicyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "ec2.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                },
                "Path": ROLE_PATH,
                "Policies": [
                    _policy("agent", "host", "images", "secrets", "notify"),
                    {"Fn::If": ["DeploysToEcs", _policy("deploy", "deploy"), _NO_VALUE]},
                    {"Fn::If": ["MakesEnvironments", _policy("environments", "environments"), _NO_VALUE]},
                ],
            },
        },
        "Profile": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Role"}]}},
    }


def _policy(name: str, *purposes: Purpose) -> Json:
    return {"PolicyName": name, "PolicyDocument": _narrowed(policy(purposes, _HERE))}


def _narrowed(document: Json) -> Json:
    """With the placeholders of resources filled in by CloudFormation."""

    def filled(resource: str | list[str]) -> Any:
        if isinstance(resource, list):
            return [filled(one) for one in resource]
        return {"Fn::Sub": resource} if "${" in resource else resource

    statements = [{**one, "Resource": filled(one["Resource"])} for one in document["Statement"]]
    return {**document, "Statement": statements}


def _host() -> Json:
    return {
        "DataVolume": {
            "Type": "AWS::EC2::Volume",
            "DeletionPolicy": "Snapshot",
            "UpdateReplacePolicy": "Snapshot",
            "Properties": {
                "AvailabilityZone": {"Ref": "Zone"},
                "Size": {"Ref": "DataSize"},
                "SnapshotId": {"Fn::If": ["HasSnapshot", {"Ref": "DataSnapshot"}, _NO_VALUE]},
                "VolumeType": "gp3",
                "Encrypted": True,
                "Tags": [{"Key": "Name", "Value": {"Fn::Sub": "${AWS::StackName} data"}}],
            },
        },
        "Host": {
            "Type": "AWS::EC2::Instance",
            "Properties": {
                "ImageId": {"Ref": "Image"},
                "InstanceType": {"Ref": "InstanceType"},
                "IamInstanceProfile": {"Ref": "Profile"},
                "NetworkInterfaces": [{"DeviceIndex": "0", "NetworkInterfaceId": {"Ref": "Interface"}}],
                # One hop: containers get no answer from the metadata service, which gives out the role's credentials.
                "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
                "BlockDeviceMappings": [
                    {
                        "DeviceName": "/dev/xvda",
                        "Ebs": {
                            "VolumeSize": 16,
                            "VolumeType": "gp3",
                            "Encrypted": True,
                            "DeleteOnTermination": True,
                        },
                    }
                ],
                # Attached by the instance, not by a resource of its own: that would be detached while it is mounted.
                "Volumes": [{"Device": "/dev/sdf", "VolumeId": {"Ref": "DataVolume"}}],
                "UserData": {"Fn::Base64": {"Fn::Join": ["", user_data(_VALUES)]}},
                "Tags": [
                    {"Key": "Name", "Value": {"Ref": "AWS::StackName"}},
                    # Made after its address: a DependsOn may not name what a condition leaves out.
                    {"Key": "Address", "Value": {"Fn::If": ["HasAddress", {"Ref": "AddressOfHost"}, "private"]}},
                ],
            },
        },
        "Ready": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "AgentRuns": {
            "Type": "AWS::CloudFormation::WaitCondition",
            "DependsOn": "Host",
            "Properties": {"Handle": {"Ref": "Ready"}, "Timeout": str(SETUP_S), "Count": 1},
        },
    }
