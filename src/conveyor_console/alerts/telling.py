"""Tells channels of alerts: by e-mail, to a webhook, to a Slack-compatible webhook."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any

import orjson

from conveyor_console.alerts.ending import name_of
from conveyor_console.alerts.models import Alert, AlertChannel, AlertDelivery, AlertRule
from conveyor_console.kit.outgoing import NotSent, Outgoing
from conveyor_console.settings import Settings

_SMTP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Message:
    """What is told; the same for all kinds of channels."""

    kind: str
    rule: str
    severity: str
    summary: str
    value: float | None
    alert_id: str
    fired_at: datetime
    resolved_at: datetime | None

    @property
    def title(self) -> str:
        """One line."""
        return f"[{self.kind}] {self.severity}: {self.rule}"


def message_of(delivery: AlertDelivery, alert: Alert, rule: AlertRule) -> Message:
    """Return what a delivery tells."""
    return Message(
        delivery.kind,
        name_of(rule),
        alert.severity,
        alert.summary,
        alert.value,
        alert.id,
        alert.fired_at,
        alert.resolved_at,
    )


class Teller:
    """Delivers messages. Raises `Refused` and `NotSent`."""

    def __init__(self, settings: Settings, outgoing: Outgoing) -> None:
        self._settings = settings
        self._outgoing = outgoing

    async def tell(self, channel: AlertChannel, target: str, message: Message) -> None:
        """Tell one channel."""
        if channel.kind == "email":
            await asyncio.to_thread(self._mail, target, message)
            return
        body = slack_body(message) if channel.kind == "slack" else webhook_body(message)
        answer = await self._outgoing.post(
            target, orjson.dumps(body), {"Content-Type": "application/json"}
        )
        if not answer.good:
            raise NotSent(f"the answer was {answer.status}", answered=True)

    def _mail(self, target: str, message: Message) -> None:
        settings = self._settings
        if settings.smtp_host is None:
            raise NotSent("no mail server is set: CONVEYOR_SMTP_HOST")
        try:
            mail = mail_of(message, settings.smtp_from, target)
        except ValueError as exc:
            raise NotSent(f"the e-mail cannot be written: {exc}", answered=True) from None
        context = ssl.create_default_context()
        try:
            kind: Any = smtplib.SMTP_SSL if settings.smtp_security == "tls" else smtplib.SMTP
            more = {"context": context} if settings.smtp_security == "tls" else {}
            with kind(
                settings.smtp_host, settings.smtp_port, timeout=_SMTP_SECONDS, **more
            ) as smtp:
                if settings.smtp_security == "starttls":
                    smtp.starttls(context=context)
                if settings.smtp_user and settings.smtp_password:
                    smtp.login(settings.smtp_user, settings.smtp_password.get_secret_value())
                smtp.send_message(mail)
        except smtplib.SMTPResponseException as exc:
            raise NotSent(f"the mail server said: {exc}", answered=True) from None
        except (OSError, smtplib.SMTPException) as exc:
            raise NotSent(f"the mail server said: {exc}") from None


def mail_of(message: Message, sender: str, target: str) -> EmailMessage:
    """Write the e-mail; `target` is one or several addresses, separated by commas."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, target, message.title
    lines = [
        message.summary,
        "",
        f"Rule:     {message.rule}",
        f"Severity: {message.severity}",
        f"Since:    {message.fired_at.isoformat(timespec='seconds')}",
    ]
    if message.resolved_at is not None:
        lines.append(f"Resolved: {message.resolved_at.isoformat(timespec='seconds')}")
    mail.set_content("\n".join([*lines, f"Alert:    {message.alert_id}", ""]))
    return mail


def webhook_body(message: Message) -> dict[str, Any]:
    """Return what a webhook gets."""
    return {
        "type": f"alert.{message.kind}",
        "alert_id": message.alert_id,
        "rule": message.rule,
        "severity": message.severity,
        "summary": message.summary,
        "value": message.value,
        "fired_at": message.fired_at.isoformat(),
        "resolved_at": message.resolved_at and message.resolved_at.isoformat(),
    }


def slack_body(message: Message) -> dict[str, Any]:
    """Return what chats understand that take Slack's incoming webhooks."""
    return {"text": f"*{_escaped(message.title)}*\n{_escaped(message.summary)}"}


def _escaped(text: str) -> str:
    """Escape what would be a link or a mention there."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
