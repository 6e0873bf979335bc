// Shows the OpenAPI document with Swagger UI.
const docs = document.getElementById("docs");

SwaggerUIBundle({
  domNode: docs,
  url: docs.dataset.document,
  deepLinking: true,
  // Nothing is sent to anybody else, such as the validator of swagger.io.
  validatorUrl: null,
});
