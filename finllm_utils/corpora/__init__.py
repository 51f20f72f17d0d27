"""One loader for each text or table that an installed package ships."""
