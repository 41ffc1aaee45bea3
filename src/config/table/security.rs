//! Pure data. Authorization, SASL, TLS, delegation tokens.

use super::keys;

keys! {
    "authorizer.class.name" String "" [NonNullText] Low ReadOnly Refused
        "The Java class that decides who may do what; an empty value allows everything.";
    "principal.builder.class" Class "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder" [Any] Medium PerBroker Refused
        "The Java class that names the user of a connection.";
    "delegation.token.secret.key" Password null [Any] Medium ReadOnly NotYet
        "The secret that delegation tokens are signed with.";
    "delegation.token.expiry.check.interval.ms" Long "3600000" [AtLeast(1.0)] Low ReadOnly NotYet
        "How often expired delegation tokens are looked for.";
    "delegation.token.expiry.time.ms" Long "86400000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How long a delegation token lasts until it is renewed.";
    "delegation.token.max.lifetime.ms" Long "604800000" [AtLeast(1.0)] Medium ReadOnly NotYet
        "How long a delegation token lasts at most.";
    "security.providers" String null [Any] Low ReadOnly NotYet
        "Java classes that supply cryptography.";
    "sasl.client.callback.handler.class" Class null [Any] Medium ReadOnly NotYet
        "A Java class that answers for the broker as a SASL client.";
    "sasl.enabled.mechanisms" List "GSSAPI" [Any] Medium PerBroker NotYet
        "The SASL mechanisms that clients may use.";
    "sasl.jaas.config" Password null [Any] Medium PerBroker NotYet
        "The login of SASL, as in a JAAS file.";
    "sasl.kerberos.kinit.cmd" String "/usr/bin/kinit" [Any] Medium PerBroker NotYet
        "Where kinit is.";
    "sasl.kerberos.min.time.before.relogin" Long "60000" [Any] Medium PerBroker NotYet
        "How long Kerberos rests between logins.";
    "sasl.kerberos.principal.to.local.rules" List "DEFAULT" [Any] Medium PerBroker NotYet
        "How Kerberos names become user names.";
    "sasl.kerberos.service.name" String null [Any] Medium PerBroker NotYet
        "The Kerberos name of the broker's service.";
    "sasl.kerberos.ticket.renew.jitter" Double "0.05" [Any] Medium PerBroker NotYet
        "Which part of a ticket's renewal time is left to chance.";
    "sasl.kerberos.ticket.renew.window.factor" Double "0.8" [Any] Medium PerBroker NotYet
        "Which part of a ticket's life passes before it is renewed.";
    "sasl.login.callback.handler.class" Class null [Any] Medium ReadOnly NotYet
        "A Java class that supplies the login.";
    "sasl.login.class" Class null [Any] Medium ReadOnly NotYet
        "A Java class that logs in.";
    "sasl.login.connect.timeout.ms" Int null [Any] Low ReadOnly NotYet
        "How long a connection to the identity provider may take.";
    "sasl.login.read.timeout.ms" Int null [Any] Low ReadOnly NotYet
        "How long the identity provider may take to answer.";
    "sasl.login.refresh.buffer.seconds" Short "300" [Any] Medium PerBroker NotYet
        "How long before its end a login is refreshed at the latest.";
    "sasl.login.refresh.min.period.seconds" Short "60" [Any] Medium PerBroker NotYet
        "How long a login lasts at least before it is refreshed.";
    "sasl.login.refresh.window.factor" Double "0.8" [Any] Medium PerBroker NotYet
        "Which part of a login's life passes before it is refreshed.";
    "sasl.login.refresh.window.jitter" Double "0.05" [Any] Medium PerBroker NotYet
        "Which part of that time is left to chance.";
    "sasl.login.retry.backoff.max.ms" Long "10000" [Any] Low ReadOnly NotYet
        "How long a login waits after failures, at most.";
    "sasl.login.retry.backoff.ms" Long "100" [Any] Low ReadOnly NotYet
        "How long a login first waits after a failure.";
    "sasl.mechanism.controller.protocol" String "GSSAPI" [Any] High ReadOnly NotYet
        "The SASL mechanism towards controllers.";
    "sasl.mechanism.inter.broker.protocol" String "GSSAPI" [Any] Medium PerBroker NotYet
        "The SASL mechanism among brokers.";
    "sasl.oauthbearer.assertion.algorithm" String "RS256" [OneOfAnyCase(&["ES256", "RS256"])] Medium ReadOnly NotYet
        "How a JWT assertion is signed.";
    "sasl.oauthbearer.assertion.claim.aud" String null [Any] Medium ReadOnly NotYet
        "The audience of a JWT assertion.";
    "sasl.oauthbearer.assertion.claim.exp.seconds" Int "300" [Between(0.0, 86400.0)] Low ReadOnly NotYet
        "How long a JWT assertion is valid.";
    "sasl.oauthbearer.assertion.claim.iss" String null [Any] Medium ReadOnly NotYet
        "The issuer of a JWT assertion.";
    "sasl.oauthbearer.assertion.claim.jti.include" Boolean "false" [Any] Medium ReadOnly NotYet
        "Whether a JWT assertion has an id.";
    "sasl.oauthbearer.assertion.claim.nbf.seconds" Int "60" [Between(0.0, 3600.0)] Low ReadOnly NotYet
        "How long before now a JWT assertion is already valid.";
    "sasl.oauthbearer.assertion.claim.sub" String null [Any] Medium ReadOnly NotYet
        "The subject of a JWT assertion.";
    "sasl.oauthbearer.assertion.file" String null [Any] Medium ReadOnly NotYet
        "A file with a finished JWT assertion.";
    "sasl.oauthbearer.assertion.private.key.file" String null [Any] Medium ReadOnly NotYet
        "The key that JWT assertions are signed with.";
    "sasl.oauthbearer.assertion.private.key.passphrase" Password null [Any] Medium ReadOnly NotYet
        "The passphrase of that key.";
    "sasl.oauthbearer.assertion.template.file" String null [Any] Medium ReadOnly NotYet
        "A file with what a JWT assertion says besides.";
    "sasl.oauthbearer.client.credentials.client.id" String null [Any] Medium ReadOnly NotYet
        "The client id towards the identity provider.";
    "sasl.oauthbearer.client.credentials.client.secret" Password null [Any] Medium ReadOnly NotYet
        "The client secret towards the identity provider.";
    "sasl.oauthbearer.clock.skew.seconds" Int "30" [Any] Low ReadOnly NotYet
        "How far the identity provider's clock may be off.";
    "sasl.oauthbearer.expected.audience" List "" [Any] High ReadOnly NotYet
        "The audiences of which a token must name one.";
    "sasl.oauthbearer.expected.issuer" String null [Any] High ReadOnly NotYet
        "The issuer that a token must name.";
    "sasl.oauthbearer.jwks.endpoint.refresh.ms" Long "3600000" [Any] Low ReadOnly NotYet
        "How often the identity provider's keys are read again.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" Long "10000" [Any] Low ReadOnly NotYet
        "How long that waits after failures, at most.";
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" Long "100" [Any] Low ReadOnly NotYet
        "How long that first waits after a failure.";
    "sasl.oauthbearer.jwks.endpoint.url" String null [Any] Medium ReadOnly NotYet
        "Where the identity provider's keys are.";
    "sasl.oauthbearer.jwt.retriever.class" Class "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever" [Any] Medium ReadOnly NotYet
        "The Java class that gets tokens.";
    "sasl.oauthbearer.jwt.validator.class" Class "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator" [Any] Medium ReadOnly NotYet
        "The Java class that checks tokens.";
    "sasl.oauthbearer.scope" String null [Any] Medium ReadOnly NotYet
        "The scope that is asked of the identity provider.";
    "sasl.oauthbearer.scope.claim.name" String "scope" [Any] Low ReadOnly NotYet
        "The claim that holds a token's scope.";
    "sasl.oauthbearer.sub.claim.name" String "sub" [Any] Low ReadOnly NotYet
        "The claim that holds a token's subject.";
    "sasl.oauthbearer.token.endpoint.url" String null [Any] Medium ReadOnly NotYet
        "Where tokens are got.";
    "sasl.server.callback.handler.class" Class null [Any] Medium ReadOnly NotYet
        "A Java class that checks what SASL clients say.";
    "sasl.server.max.receive.size" Int "524288" [Any] Medium ReadOnly NotYet
        "The largest message before a client is authenticated.";
    "ssl.allow.dn.changes" Boolean "false" [Any] Low ReadOnly NotYet
        "Whether a new certificate may bear another name.";
    "ssl.allow.san.changes" Boolean "false" [Any] Low ReadOnly NotYet
        "Whether a new certificate may bear other alternative names.";
    "ssl.cipher.suites" List "" [Any] Medium PerBroker NotYet
        "The TLS cipher suites; empty, all that are sound.";
    "ssl.client.auth" String "none" [OneOf(&["required", "requested", "none"])] Medium PerBroker NotYet
        "Whether clients must show a certificate.";
    "ssl.enabled.protocols" List "TLSv1.2,TLSv1.3" [Any] Medium PerBroker NotYet
        "The versions of TLS.";
    "ssl.endpoint.identification.algorithm" String "https" [Any] Low PerBroker NotYet
        "How the name of the other side is checked; empty, not at all.";
    "ssl.engine.factory.class" Class null [Any] Low PerBroker NotYet
        "A Java class that makes TLS engines.";
    "ssl.key.password" Password null [Any] Medium PerBroker NotYet
        "The password of the private key.";
    "ssl.keymanager.algorithm" String "SunX509" [Any] Medium PerBroker NotYet
        "Java's name for how keys are managed.";
    "ssl.keystore.certificate.chain" Password null [Any] Medium PerBroker NotYet
        "The certificate chain as PEM.";
    "ssl.keystore.key" Password null [Any] Medium PerBroker NotYet
        "The private key as PEM.";
    "ssl.keystore.location" String null [Any] Medium PerBroker NotYet
        "Where the key store is.";
    "ssl.keystore.password" Password null [Any] Medium PerBroker NotYet
        "The password of the key store.";
    "ssl.keystore.type" String "JKS" [Any] Medium PerBroker NotYet
        "The format of the key store.";
    "ssl.principal.mapping.rules" String "DEFAULT" [Any] Low ReadOnly NotYet
        "How certificate names become user names.";
    "ssl.protocol" String "TLSv1.3" [Any] Medium PerBroker NotYet
        "The version of TLS to begin with.";
    "ssl.provider" String null [Any] Medium PerBroker NotYet
        "Java's name for who supplies TLS.";
    "ssl.secure.random.implementation" String null [Any] Low PerBroker NotYet
        "Java's name for the source of chance.";
    "ssl.trustmanager.algorithm" String "PKIX" [Any] Medium PerBroker NotYet
        "Java's name for how trust is managed.";
    "ssl.truststore.certificates" Password null [Any] Medium PerBroker NotYet
        "The trusted certificates as PEM.";
    "ssl.truststore.location" String null [Any] Medium PerBroker NotYet
        "Where the trust store is.";
    "ssl.truststore.password" Password null [Any] Medium PerBroker NotYet
        "The password of the trust store.";
    "ssl.truststore.type" String "JKS" [Any] Medium PerBroker NotYet
        "The format of the trust store.";
}
