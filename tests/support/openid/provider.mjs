// An OpenID provider for the tests: oidc-provider with three clients, and signing keys from a file.
//
//   node provider.mjs PORT JWKS
//
// It says READY on its standard output when it accepts connections.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const [port, keys] = process.argv.slice(2)
const machine = (client_id) => ({
  client_id, client_secret: `${client_id}-secret-of-the-tests`,
  grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
})

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(readFileSync(keys)),
  cookies: { keys: ['of-the-tests'] },
  clients: [
    machine('etl'),
    machine('gateway'), // asks about tokens
    {
      client_id: 'page', application_type: 'native', token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'],
    },
  ],
  scopes: ['openid', 'orders:read', 'orders:write'],
  ttl: { AccessToken: 600, ClientCredentials: 600, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_ctx, client) => client.clientId === 'gateway' },
    resourceIndicators: {
      enabled: true,
      // A token for `urn:jwt:ALG` is a JWT (RFC 9068) signed so; one for another resource says nothing by itself.
      getResourceServerInfo: (_ctx, resource) => {
        const alg = /^urn:jwt:(\w+)$/.exec(resource)?.[1]
        return {
          audience: 'gateway', scope: 'orders:read orders:write', accessTokenTTL: 600,
          accessTokenFormat: alg ? 'jwt' : 'opaque', ...(alg && { jwt: { sign: { alg } } }),
        }
      },
    },
  },
  extraTokenClaims: () => ({ organization: { name: 'acme' }, plan: 'pro' }),
})
createServer(provider.callback()).listen(Number(port), '127.0.0.1', () => console.log('READY'))
