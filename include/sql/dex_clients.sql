SELECT DISTINCT c.ClientID, c.name
FROM Client c
INNER JOIN ClientServiceExt cs ON c.ClientID = cs.ClientID
WHERE c.OAuth2ClientCredentialsID IS NOT NULL
  AND cs.ServiceID IN (2, 8, 3, 4, 5)
ORDER BY c.ClientID
