// Starts Swagger UI. Tokens are only in this page's memory.
const page = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  tryItOutEnabled: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  queryConfigEnabled: false,
  validatorUrl: null,
  // The token of a login, a refresh or a new password authorizes the calls after it.
  responseInterceptor: (response) => {
    const token = response.ok && response.obj?.token;
    if (token) page.preauthorizeApiKey("bearer", token);
    return response;
  },
});
