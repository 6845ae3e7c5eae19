"""Java, by Maven or Gradle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from seamless.discovery.files import Files
from seamless.discovery.suggestions import Suggestion

_JAVA: Final = "21"
_MAVEN_VERSION: Final = re.compile(
    r"<(?:maven\.compiler\.release|java\.version|maven\.compiler\.source|release)>\s*(?:1\.)?(\d{1,2})\s*<"
)
_GRADLE_VERSION: Final = re.compile(
    r"(?:JavaLanguageVersion\.of\(\s*|sourceCompatibility\s*=?\s*['\"]?(?:JavaVersion\.VERSION_)?(?:1[._])?|jvmToolchain\(\s*)(\d{1,2})"
)


def java(files: Files) -> Iterator[Suggestion]:
    if "pom.xml" in files:
        yield from _maven(files)
    elif build := files.first("build.gradle.kts", "build.gradle"):
        yield from _gradle(files, build)


def _maven(files: Files) -> Iterator[Suggestion]:
    pom = files.text("pom.xml")
    found = _MAVEN_VERSION.search(pom)
    version = found[1] if found else _JAVA
    wrapper = "mvnw" in files
    image = f"eclipse-temurin:{version}" if wrapper else f"maven:3-eclipse-temurin-{version}"
    yield Suggestion("image", image, f"pom.xml asks for Java {version}" if found else f"Java {_JAVA} LTS")
    program = "sh ./mvnw -B" if wrapper else "mvn -B"
    yield Suggestion("install", f"{program} test-compile", "mvnw" if wrapper else "pom.xml")
    yield Suggestion("caches", ["/root/.m2"], "what Maven fetched")
    checks = [
        goal
        for name, goal in (
            ("maven-checkstyle-plugin", "checkstyle:check"),
            ("spotless-maven-plugin", "spotless:check"),
            ("spotbugs-maven-plugin", "spotbugs:check"),
        )
        if name in pom
    ]
    if checks:
        yield Suggestion("code_quality", f"{program} {' '.join(checks)}", "plugins of pom.xml")
    yield Suggestion("unit_test", f"{program} test", "Maven's own")
    yield Suggestion("junit", ["**/target/surefire-reports/*.xml"], "Surefire writes them")


def _gradle(files: Files, build: str) -> Iterator[Suggestion]:
    text = files.text(build)
    found = _GRADLE_VERSION.search(text)
    version = found[1] if found else _JAVA
    wrapper = "gradlew" in files
    image = f"eclipse-temurin:{version}" if wrapper else f"gradle:jdk{version}"
    yield Suggestion("image", image, f"{build} asks for Java {version}" if found else f"Java {_JAVA} LTS")
    program = "sh ./gradlew --no-daemon" if wrapper else "gradle --no-daemon"
    yield Suggestion("install", f"{program} testClasses", "gradlew" if wrapper else build)
    yield Suggestion("caches", ["/root/.gradle" if wrapper else "/home/gradle/.gradle"], "what Gradle fetched")
    if re.search(r"checkstyle|spotless|pmd|detekt|ktlint|spotbugs", text):
        yield Suggestion("code_quality", f"{program} check -x test", f"a plugin of {build}")
    yield Suggestion("unit_test", f"{program} test", "Gradle's own")
    yield Suggestion("junit", ["**/build/test-results/test/*.xml"], "Gradle writes them")
