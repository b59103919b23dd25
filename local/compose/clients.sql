-- The client tables that the archive's query joins, without what only one database understands.
DROP TABLE IF EXISTS ClientServiceExt;
DROP TABLE IF EXISTS Client;
CREATE TABLE Client (
    ClientID INTEGER NOT NULL PRIMARY KEY,
    name NVARCHAR(200) NOT NULL,
    CountryCode NVARCHAR(2) NOT NULL,
    Status NVARCHAR(20) NOT NULL,
    OAuth2ClientCredentialsID INTEGER NULL,
    CreatedAt NVARCHAR(40) NOT NULL
);
CREATE TABLE ClientServiceExt (
    ClientServiceExtID INTEGER NOT NULL PRIMARY KEY,
    ClientID INTEGER NOT NULL REFERENCES Client (ClientID),
    ServiceID INTEGER NOT NULL,
    ActiveFrom NVARCHAR(40) NOT NULL,
    UNIQUE (ClientID, ServiceID)
);
