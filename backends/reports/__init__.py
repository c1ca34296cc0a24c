"""Reports: a Flask microservice that draws a tenant's documents as a table and a chart."""
