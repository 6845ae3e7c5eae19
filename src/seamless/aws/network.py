"""Where an environment's tasks live, and what stands before its public services: looked up, so that few are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seamless.aws.errors import AwsError
from seamless.aws.sessions import Account
from seamless.errors import UsageError


@dataclass(frozen=True, slots=True)
class Network:
    vpc: str
    subnets: tuple[str, ...]
    public: bool  # the subnets give their machines public addresses by themselves


async def find_network(account: Account, vpc: str | None, subnets: Sequence[str]) -> Network:
    """The named subnets, else all of the named VPC, else of the default one.

    Raises UsageError for what is not there, and as `Account.call`.
    """
    if subnets:
        return await _named_subnets(account, vpc, subnets)
    vpc = vpc or await _default_vpc(account)
    found = await account.pages("ec2", "describe_subnets", "Subnets", Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    if not found:
        raise UsageError(f"the VPC {vpc} has no subnets", hint="name another: --vpc, or --subnet twice")
    default = [one for one in found if one.get("DefaultForAz")]
    public = [one for one in found if one["MapPublicIpOnLaunch"]]
    chosen = default or public or found
    return Network(vpc, tuple(sorted(one["SubnetId"] for one in chosen)), all(one in public for one in chosen))


async def find_entrance(account: Account, target_group: str, network: Network) -> tuple[str, ...]:
    """The security groups of the load balancer that a target group belongs to.

    Raises UsageError when a Fargate service cannot stand behind it.
    """
    try:
        answer = await account.call("elbv2", "describe_target_groups", TargetGroupArns=[target_group])
    except AwsError as error:
        if error.aws_code in ("TargetGroupNotFound", "TargetGroupNotFoundException"):
            raise UsageError(f"there is no target group {target_group}", hint="look at its ARN and region") from error
        raise
    (found,) = answer["TargetGroups"]
    name = found["TargetGroupName"]
    if found.get("TargetType") != "ip":
        kind = found.get("TargetType")
        raise UsageError(f"the target group {name} is of type {kind}", hint="Fargate needs one of type ip")
    if found.get("VpcId") != network.vpc:
        raise UsageError(f"the target group {name} is in {found.get('VpcId')}, not in {network.vpc}", hint="--vpc")
    if not found.get("LoadBalancerArns"):
        hint = "add it to a listener's rule first; ECS takes no other"
        raise UsageError(f"no load balancer uses the target group {name}", hint=hint)
    balancers = await account.call("elbv2", "describe_load_balancers", LoadBalancerArns=found["LoadBalancerArns"])
    groups = sorted({group for one in balancers["LoadBalancers"] for group in one.get("SecurityGroups", [])})
    if not groups:
        hint = "give the load balancer one: the service lets in what comes from it"
        raise UsageError(f"the load balancer of {name} has no security group", hint=hint)
    return tuple(groups)


async def _named_subnets(account: Account, vpc: str | None, subnets: Sequence[str]) -> Network:
    try:
        answer = await account.call("ec2", "describe_subnets", SubnetIds=list(subnets))
    except AwsError as error:
        if error.aws_code.startswith("InvalidSubnetID"):
            raise UsageError(error.message, hint="look at the ids and the region") from error
        raise
    found = answer["Subnets"]
    vpcs = sorted({one["VpcId"] for one in found})
    if len(vpcs) > 1:
        raise UsageError(f"the subnets are of several VPCs: {', '.join(vpcs)}", hint="name those of one")
    if vpc is not None and vpcs != [vpc]:
        raise UsageError(f"the subnets are in {vpcs[0]}, not in {vpc}")
    ids = tuple(sorted(one["SubnetId"] for one in found))
    return Network(vpcs[0], ids, all(one["MapPublicIpOnLaunch"] for one in found))


async def _default_vpc(account: Account) -> str:
    found = await account.pages("ec2", "describe_vpcs", "Vpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])
    if not found:
        raise UsageError("this region has no default VPC", hint="name one: --vpc, or --subnet twice")
    return str(found[0]["VpcId"])
